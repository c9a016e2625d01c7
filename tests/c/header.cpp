// Checks that the header compiles as C++. The build checks the syntax alone.
#include <shmkit.h>

#include <type_traits>

static_assert(SHMKIT_VERSION == SHMKIT_VERSION_MAJOR * 1000000 + SHMKIT_VERSION_MINOR * 1000 + SHMKIT_VERSION_PATCH,
              "");
static_assert(std::is_same<decltype(shmkit_version()), uint32_t>::value, "");
static_assert(SHMKIT_OK == 0 && SHMKIT_ERR_INVALID == -1 && SHMKIT_ERR_INTERNAL == -25, "");
static_assert(sizeof(shmkit_segment_options) == 32, "");
static_assert(std::is_standard_layout<shmkit_segment_info>::value, "");
static_assert(std::is_standard_layout<shmkit_limits_info>::value, "");

extern "C" int32_t continue_waiting(void *)
{
    return 0;
}

int main()
{
    shmkit_segment *segment = nullptr;
    shmkit_segment_options options = {};
    options.struct_size = sizeof options;
    options.flags = SHMKIT_SEGMENT_NO_SPACE_CHECK | SHMKIT_INTERRUPTIBLE;
    if (shmkit_set_interrupt(continue_waiting, nullptr) != SHMKIT_OK)
        return 1;
    if (shmkit_segment_create(nullptr, 4096, &options, &segment) != SHMKIT_OK)
        return 1;
    return shmkit_segment_close(segment) == SHMKIT_OK ? 0 : 1;
}
