use super::*;
use crate::io::DriverKind;
use std::{future::poll_fn, num::NonZeroUsize};

const MAX: u64 = 256 << 10;

fn ledger(max: u64) -> Rc<Ledger> {
    let budget = Arc::new(Budget::new(NonZeroUsize::MIN));
    let ledger = Rc::new(Ledger::new(budget, Arc::default()));
    ledger.limit(NonZeroU64::new(max));
    ledger
}

fn piece(length: usize) -> Frame<Bytes> {
    Frame::data(Bytes::from(vec![b'x'; length]))
}

fn waits(ledger: &Ledger) -> u64 {
    ledger.counters.get(Count::InFlightBytes)
}

/// What passes on, as it is held.
fn pass(passage: &mut Passage, flow: &Flow, length: usize) -> Option<Frame<Bytes>> {
    let cx = Context::from_waker(Waker::noop());
    let ready = passage.poll_room(|| flow, &SizeHint::new(), &cx).is_ready();
    ready.then(|| passage.passes(|| flow, piece(length)))
}

#[test]
fn a_small_body_does_not_count_and_a_large_one_does_with_its_first_bytes() {
    let ledger = ledger(MAX);
    let flow = Flow::new(&ledger);
    let mut passage = Passage::default();
    let cx = Context::from_waker(Waker::noop());
    let nobody = || unreachable!("it is small");
    let small = SizeHint::with_exact(FREE as u64 - 1);
    assert!(passage.poll_room(nobody, &small, &cx).is_ready());
    let mut kept = vec![passage.passes(nobody, piece(FREE - 1))];
    assert_eq!(ledger.share.held(), 0);
    kept.push(passage.passes(|| &flow, piece(1)));
    assert_eq!(usize::try_from(ledger.share.held()), Ok(FREE));
    drop(kept);
    assert_eq!(ledger.share.held(), 0);
}

#[test]
fn without_a_limit_nothing_counts() {
    let ledger = ledger(0);
    let flow = Flow::new(&ledger);
    let mut passage = Passage::default();
    let kept: Vec<_> = (0..100).map(|_| pass(&mut passage, &flow, 64 << 10)).collect();
    assert!(kept.iter().all(Option::is_some));
    assert_eq!((ledger.share.held(), waits(&ledger)), (0, 0));
}

#[test]
fn beyond_the_limit_a_body_waits_and_one_with_nothing_in_flight_takes_a_piece() {
    let outcome = io::run(DriverKind::Epoll, async {
        let ledger = ledger(MAX);
        let (busy, other) = (Flow::new(&ledger), Flow::new(&ledger));
        let (mut first, mut second) = (Passage::default(), Passage::default());
        let mut kept = Vec::new();
        while let Some(frame) = pass(&mut first, &busy, 64 << 10) {
            kept.push(frame);
        }
        let at_limit = (kept.len(), waits(&ledger));
        let theirs = [
            pass(&mut second, &other, 64 << 10),
            pass(&mut second, &other, 64 << 10),
        ];
        let took = theirs.each_ref().map(Option::is_some);
        // One that has not begun is no exception.
        let mut third = Passage::default();
        assert!(pass(&mut third, &busy, 1).is_none());
        drop(third);
        // Asked again, it waits for the same.
        assert!(pass(&mut first, &busy, 1).is_none());
        drop((theirs, kept));
        poll_fn(|cx| first.poll_room(|| &busy, &SizeHint::new(), cx)).await;
        poll_fn(|cx| second.poll_room(|| &other, &SizeHint::new(), cx)).await;
        (at_limit, took, waits(&ledger), ledger.waiting.borrow().len())
    });
    assert_eq!(outcome.expect("the driver runs"), ((4, 1), [true, false], 3, 0));
}

#[test]
fn whoever_waits_is_woken_where_there_is_room_and_goes_without_a_trace() {
    let outcome = io::run(DriverKind::Epoll, async {
        let ledger = ledger(MAX);
        let flow = Flow::new(&ledger);
        let mut bodies: Vec<Passage> = (0..8).map(|_| Passage::default()).collect();
        let mut kept = Vec::new();
        for body in &mut bodies {
            kept.push(body.passes(|| &flow, piece(64 << 10)));
        }
        let cx = Context::from_waker(Waker::noop());
        assert!(
            bodies
                .iter_mut()
                .all(|body| body.poll_room(|| &flow, &SizeHint::new(), &cx).is_pending())
        );
        bodies.truncate(7);
        let waiting = ledger.waiting.borrow().len();
        let none = ledger.let_through().len();
        // Room for two.
        kept.truncate(2);
        let through = ledger.let_through().len();
        bodies.clear();
        (waiting, none, through, ledger.waiting.borrow().len())
    });
    assert_eq!(outcome.expect("the driver runs"), (7, 0, 2, 0));
}
