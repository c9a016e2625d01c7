//! The built-in lock of a managed segment. Locks at offsets: tests/object/place.rs.

use super::common::process::alone;
use super::{Form, form, managed, recover};
use shmkit::lock::Lock;
use shmkit::raw::WaitOptions;
use shmkit::segment::Segment;
use std::sync::Arc;

#[test]
fn only_a_managed_segment_has_a_built_in_lock() {
    alone(|| {
        let segment = managed(1);
        let (one, same) = (Lock::of(&segment).unwrap(), Lock::of(&segment).unwrap());
        drop(segment);
        one.acquire_with(WaitOptions::NONBLOCKING).unwrap();
        refused!(WouldBlock, same.acquire_with(WaitOptions::NONBLOCKING));
        same.release().unwrap();
        super::holder(&one).kill();
        recover(&same);
        assert!(!one.is_transferable());
        refused!(Invalid, one.unlink());
        refused!(Invalid, one.export());
        let reading = shmkit::segment::Options {
            readonly: true,
            ..form(Form::Either)
        };
        let reader = Segment::open_fd(one.segment().fd(), 0, &reading).unwrap();
        refused!(Permission, Lock::of(&Arc::new(reader)));
        let plain = Segment::create(None, 4096, &form(Form::Plain)).unwrap();
        refused!(WrongKind, Lock::of(&Arc::new(plain)));
    });
}
