/*
 * Prints figures and a thumbnail of the picture in a segment, which it maps read-only: look NAME
 *
 * cc look.c -o look $(pkg-config --cflags --libs shmkit), or with the directories that shmkit.get_include() and
 * shmkit.get_library_dir() return in Python.
 */
#include <inttypes.h>
#include <shmkit.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* The header of the segment, as in sheet.py. */
struct sheet {
    char magic[8];
    uint64_t height, width, channels;
    uint64_t offset[2];
    uint64_t shown;
};

enum { COLUMNS = 56, CHANNELS = 3 };

static const char *const NAMES[CHANNELS] = {"red", "green", "blue"};
static const char SHADES[] = " .:-=+*#%@";

static int failed(const char *what)
{
    const char *message = "";
    shmkit_last_error(NULL, NULL, &message);
    fprintf(stderr, "look: %s: %s\n", what, message);
    return 1;
}

/* Returns the doubles, or NULL if the header is invalid. Any process may have written the header. */
static const double *pixels_of(const void *data, uint64_t size, struct sheet *sheet)
{
    const uint64_t max = 1 << 20;
    if (size < sizeof *sheet)
        return NULL;
    memcpy(sheet, data, sizeof *sheet);
    if (memcmp(sheet->magic, "picture", sizeof sheet->magic) != 0 || sheet->channels != CHANNELS || sheet->shown > 1
        || sheet->height < 1 || sheet->height > max || sheet->width < 1 || sheet->width > max)
        return NULL;
    uint64_t offset = sheet->offset[sheet->shown];
    uint64_t bytes = sheet->height * sheet->width * CHANNELS * sizeof(double);
    if (offset % sizeof(double) != 0 || offset > size || bytes > size - offset)
        return NULL;
    return (const double *)((const char *)data + offset);
}

static void print_channels(const double *pixels, const struct sheet *sheet)
{
    uint64_t count = sheet->height * sheet->width;
    for (int channel = 0; channel < CHANNELS; channel++) {
        double min = pixels[channel], max = min, sum = 0;
        for (uint64_t i = 0; i < count; i++) {
            double value = pixels[i * CHANNELS + (uint64_t)channel];
            sum += value;
            min = value < min ? value : min;
            max = value > max ? value : max;
        }
        printf("%-5s  mean %.12f  min %.12f  max %.12f\n", NAMES[channel], sum / (double)count, min, max);
    }
}

static double brightness(const double *pixels, const struct sheet *sheet, const uint64_t rows[2],
                         const uint64_t columns[2])
{
    double sum = 0;
    for (uint64_t y = rows[0]; y < rows[1]; y++)
        for (uint64_t x = columns[0]; x < columns[1]; x++) {
            const double *pixel = pixels + (y * sheet->width + x) * CHANNELS;
            sum += 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2];
        }
    return sum / (double)((rows[1] - rows[0]) * (columns[1] - columns[0]));
}

static void print_thumbnail(const double *pixels, const struct sheet *sheet)
{
    /* A character is about twice as high as it is wide. */
    uint64_t lines = COLUMNS * sheet->height / sheet->width / 2;
    for (uint64_t line = 0; line < lines && lines <= sheet->height && COLUMNS <= sheet->width; line++) {
        uint64_t rows[2] = {line * sheet->height / lines, (line + 1) * sheet->height / lines};
        for (uint64_t column = 0; column < COLUMNS; column++) {
            uint64_t columns[2] = {column * sheet->width / COLUMNS, (column + 1) * sheet->width / COLUMNS};
            double light = brightness(pixels, sheet, rows, columns);
            /* These comparisons make a NaN dark. */
            light = light > 0 ? light : 0;
            light = light < 0.999 ? light : 0.999;
            putchar(SHADES[(size_t)(light * (double)(sizeof SHADES - 1))]);
        }
        putchar('\n');
    }
}

static int look(const shmkit_segment *segment, const char *name)
{
    void *data;
    uint64_t size;
    if (shmkit_segment_data(segment, &data) != SHMKIT_OK || shmkit_segment_size(segment, &size) != SHMKIT_OK)
        return failed(name);
    struct sheet sheet;
    const double *pixels = pixels_of(data, size, &sheet);
    if (pixels == NULL) {
        fprintf(stderr, "look: %s contains no picture\n", name);
        return 1;
    }
    printf("%s: %" PRIu64 " bytes; a picture of %" PRIu64 " x %" PRIu64 " pixels\n", name, size, sheet.width,
           sheet.height);
    print_channels(pixels, &sheet);
    print_thumbnail(pixels, &sheet);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: look NAME\n");
        return 2;
    }
    if (shmkit_check_version(SHMKIT_VERSION) != SHMKIT_OK)
        return failed("the library");
    shmkit_segment_options options = {.struct_size = sizeof options, .flags = SHMKIT_SEGMENT_READONLY};
    shmkit_segment *segment;
    if (shmkit_segment_open(argv[1], 0, &options, &segment) != SHMKIT_OK)
        return failed(argv[1]);
    int status = look(segment, argv[1]);
    return shmkit_segment_close(segment) == SHMKIT_OK ? status : failed("close");
}
