//! Where the next record goes: at tail, further up, or at the beginning of the next lap.
//!
//! ```text
//! head and tail in one lap:        |  free  head ######## tail |  free …                    |
//! tail a lap further:              | #### tail  free  head ####### wrap   free …            |
//! … and gone on behind the wrap:   | #### PAD   free  head ####### wrap ####### tail free … |
//! ```
//!
//! While little is queued the next lap begins early, so that a short queue stays in the same few pages. If then much is
//! queued before head has passed the old lap, tail continues behind the wrap, where the ring is unused (D-050). So all
//! free bytes can be used, and no queued record moves. There is always room for a PAD at tail.

use super::record::{Laps, RECORD_HEADER};
use crate::error::{Error, Result};

/// A lap does not end before this offset: a ring of this size stays in the fastest cache.
pub const MIN_LAP_BYTES: u64 = 32 << 10;
const PAGE: u64 = 4096;
/// How many bytes tail goes at most without a check whether the lap can end.
const MAX_UNCHECKED_BYTES: u64 = 1 << 20;

/// The part of the ring that is in use.
#[derive(Debug, Clone, Copy)]
pub struct Used {
    /// The first record that is still needed.
    pub head: u64,
    /// The end of the last record.
    pub tail: u64,
    /// The PAD that ended the lap before tail's lap; if it is in any other lap it has no meaning.
    pub wrap_position: u64,
}

impl Used {
    /// Returns where a record of `extent` bytes goes, in a ring of which the first `usable` bytes have memory. If that
    /// is not tail, a PAD must lead there from tail. Returns `None` if there is no room. Fails with `Corrupt` if the
    /// three positions contradict each other.
    pub fn place(self, laps: Laps, usable: u64, extent: u64) -> Result<Option<u64>> {
        let Used {
            head,
            tail,
            wrap_position,
        } = self;
        let (from, to) = (laps.offset(head), laps.offset(tail));
        let need = extent + RECORD_HEADER;
        let above = |offset: u64| offset + need <= laps.capacity();
        match laps.between(head, tail) {
            0 if from <= to => {
                let below = need <= from;
                // At most half of what this lap has used is still needed; or else the record would need more memory.
                let early = to + need > MIN_LAP_BYTES && from >= to - from || to + need > usable;
                if below && (early || !above(to)) {
                    return Ok(Some(laps.next(tail)));
                }
                Ok(above(to).then_some(tail))
            }
            1 if laps.between(wrap_position, tail) == 1 && from <= laps.offset(wrap_position) => {
                let behind_wrap = laps.offset(wrap_position) + RECORD_HEADER;
                if to <= from {
                    if to + need <= from {
                        return Ok(Some(tail));
                    }
                    return Ok(above(behind_wrap).then(|| laps.at(tail, behind_wrap)));
                }
                match to >= behind_wrap {
                    true => Ok(above(to).then_some(tail)),
                    false => Err(corrupt()),
                }
            }
            _ => Err(corrupt()),
        }
    }

    /// Returns the position up to which tail can go without a check of head (D-051), in a ring of which the first
    /// `usable` bytes have memory.
    pub fn checked_until(self, laps: Laps, usable: u64) -> u64 {
        let (from, to) = (laps.offset(self.head), laps.offset(self.tail));
        let free = match laps.between(self.head, self.tail) {
            1 if to <= from => from,
            _ => laps.capacity(),
        };
        // Whether the lap can end is checked now and then only: consumers write head's cache line.
        let look = match to < MIN_LAP_BYTES {
            true => MIN_LAP_BYTES,
            false => to + (to / 8).clamp(PAGE, MAX_UNCHECKED_BYTES),
        };
        laps.at(self.tail, free.min(usable).min(look))
    }
}

#[cold]
fn corrupt() -> Error {
    Error::Corrupt(
        "the head and tail of the queue contradict each other; recreate the queue".into(),
    )
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// A ring that records for each byte which record owns it.
    struct Model {
        laps: Laps,
        used: Used,
        /// The number of the record that owns each byte.
        bytes: Vec<u64>,
        /// Position, extent and whether it is a PAD, of each queued record; a PAD's extent leads to the next record.
        queued: VecDeque<(u64, u64, bool)>,
        number: u64,
    }

    impl Model {
        fn new(capacity: u64) -> Model {
            let laps = Laps::new(capacity);
            let first = laps.first();
            Model {
                laps,
                used: Used {
                    head: first,
                    tail: first,
                    wrap_position: first,
                },
                bytes: vec![0; capacity as usize],
                queued: VecDeque::new(),
                number: 0,
            }
        }

        fn mark(&mut self, position: u64, length: u64, old: bool) {
            let from = self.laps.offset(position) as usize;
            for byte in &mut self.bytes[from..from + length as usize] {
                if old {
                    *byte = 0;
                } else {
                    assert_eq!(*byte, 0, "the byte belongs to a queued record");
                    *byte = self.number;
                }
            }
        }

        fn put(&mut self, extent: u64) -> bool {
            let Some(at) = self
                .used
                .place(self.laps, u64::MAX, extent)
                .expect("positions that match")
            else {
                return false;
            };
            self.number += 1;
            let tail = self.used.tail;
            if at != tail {
                self.mark(tail, RECORD_HEADER, false);
                self.queued.push_back((tail, at.wrapping_sub(tail), true));
                if self.laps.between(tail, at) == 1 {
                    self.used.wrap_position = tail;
                }
            }
            self.number += 1;
            self.mark(at, extent, false);
            self.queued.push_back((at, extent, false));
            self.used.tail = at.wrapping_add(extent);
            true
        }

        fn get(&mut self) -> bool {
            while let Some((position, extent, pad)) = self.queued.pop_front() {
                assert_eq!(self.used.head, position);
                self.mark(position, if pad { RECORD_HEADER } else { extent }, true);
                self.used.head = position.wrapping_add(extent);
                if !pad {
                    return true;
                }
            }
            false
        }
    }

    /// A generator without a package (Marsaglia's xorshift64, doi:10.18637/jss.v008.i14).
    fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn no_two_records_ever_share_a_byte() {
        for capacity in [1 << 12, 3 << 11, 1 << 16, 100 << 10] {
            let mut model = Model::new(capacity);
            let mut state = capacity + 88_172_645_463_325_252;
            for round in 0..60_000u64 {
                // The phases alternate between more puts and more gets.
                let eager = (round / 500) % 4;
                if random(&mut state) % 4 <= eager {
                    let room = random(&mut state) % (capacity / 2 - 2 * RECORD_HEADER);
                    let room = if random(&mut state).is_multiple_of(3) {
                        room
                    } else {
                        room % 200
                    };
                    let _ = model.put(crate::raw::queue::record::extent(room));
                } else {
                    model.get();
                }
            }
        }
    }

    #[test]
    fn half_of_an_empty_ring_always_fits_one_record() {
        let capacity = 4096 + 4 * RECORD_HEADER;
        for before in (0..capacity).step_by(32) {
            let mut model = Model::new(capacity);
            if before > 0 && !model.put(before.max(RECORD_HEADER)) {
                continue;
            }
            model.get();
            assert!(
                model.put(crate::raw::queue::record::extent(2048)),
                "{before}"
            );
        }
    }

    #[test]
    fn all_free_bytes_can_be_used_after_a_lap_began_early() {
        let mut model = Model::new(1 << 20);
        let extent = 128;
        // A short queue stays in little more than MIN_LAP_BYTES.
        for _ in 0..10_000 {
            assert!(model.put(extent));
            if model.queued.len() > 20 {
                model.get();
            }
            assert!(model.laps.offset(model.used.tail) <= 2 * MIN_LAP_BYTES);
        }
        // Then a burst without a consumer.
        let mut burst = 0;
        while model.put(extent) {
            burst += extent;
        }
        assert!(burst > (1 << 20) - 3 * MIN_LAP_BYTES, "{burst}");
    }

    #[test]
    fn usable_memory_is_filled_before_the_ring_grows() {
        let laps = Laps::new(1 << 20);
        let first = laps.first();
        let deep = Used {
            head: laps.at(first, 200),
            tail: laps.at(first, 500 << 10),
            wrap_position: first,
        };
        // More than half of the lap is still needed: the lap goes on, unless that would need more memory.
        assert_eq!(deep.place(laps, 600 << 10, 64), Ok(Some(deep.tail)));
        assert_eq!(deep.place(laps, 500 << 10, 64), Ok(Some(laps.next(first))));
    }

    #[test]
    fn positions_that_contradict_each_other_are_corrupt() {
        let laps = Laps::new(1 << 16);
        let first = laps.first();
        let used = |head, tail, wrap_position| {
            Used {
                head,
                tail,
                wrap_position,
            }
            .place(laps, u64::MAX, 64)
        };
        assert!(matches!(
            used(first + 64, first, first),
            Err(Error::Corrupt(_))
        ));
        assert!(matches!(
            used(first, laps.next(first), laps.next(first)),
            Err(Error::Corrupt(_))
        ));
        assert!(matches!(
            used(first, laps.next(laps.next(first)), first),
            Err(Error::Corrupt(_))
        ));
        assert!(used(first, first, 0).is_ok());
    }
}
