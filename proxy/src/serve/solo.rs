//! The one request that an HTTP/1.1 connection has under way, as far as the library does not see to it: interim
//! answers that go out before its own, and a client that has ended its side.
//!
//! **Interim answers** are written between what the library writes. They go out only while the library has nothing
//! unwritten and the answer itself has not begun; else they are dropped, which they may be.
//!
//! **A client that ends its side** after a whole request may want its answer still, or may be gone: TCP looks the same.
//! Before the answer has begun, the client is asked by an interim answer: who is gone resets the connection, who
//! waits ignores it (RFC 9110 section 15.2). Once the answer flows, writing it asks; one that is quiet meanwhile is
//! given up after a moment. Clients of HTTP/1.0 know no interim answers, and are believed to wait.

use super::switching::Leaving;
use crate::{
    http::{
        interim::{Interim, PASSED_ON_MAX},
        upload::Upload,
    },
    io::{Instant, Sleep, sleep_until},
};
use http::{Request, Version, header::EXPECT};
use http_body::Body;
use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// When a client that has ended its side is asked whether it is there, since it did; then at the last distance.
const ASKED_AFTER: [Duration; 5] = [
    Duration::from_millis(50),
    Duration::from_millis(70),
    Duration::from_millis(150),
    Duration::from_millis(500),
    Duration::from_secs(2),
];
const ASKED_EVERY: Duration = Duration::from_secs(5);
/// How long an answer to such a client may be quiet.
const QUIET: Duration = Duration::from_millis(500);
/// What asks. Every client of HTTP/1.1 knows it.
const QUESTION: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// Interim answers that wait for the client to read.
const QUEUE_BYTES_MAX: usize = 64 * 1024;

/// See the module. Inert on a connection of HTTP/2.
#[derive(Default)]
pub(super) struct Solo {
    stage: Cell<Stage>,
    version: Cell<Version>,
    upload: RefCell<Option<Rc<Upload>>>,
    /// Whether the library has, or may have, something unwritten.
    dirty: Cell<bool>,
    /// Whether the client reads slower than is written.
    blocked: Cell<bool>,
    /// Interim answers of servers that may still be passed on.
    interim_left: Cell<usize>,
    /// Interim answers that are not written yet.
    queue: RefCell<Vec<u8>>,
    ended: RefCell<Option<Ended>>,
    /// What the connection leaves HTTP for, once the library has.
    leaving: RefCell<Option<Leaving>>,
}

/// How far the request is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// There is none.
    #[default]
    Idle,
    /// Its answer has not begun.
    Asked,
    /// It has.
    Answering,
}

/// A client that has ended its side.
struct Ended {
    since: Instant,
    /// When something was written last.
    wrote: Instant,
    /// How often it was asked, and when last.
    asked: u32,
    asked_at: Instant,
    sleep: Pin<Box<Sleep>>,
    /// Who reads again once the request is over.
    reader: Waker,
}

impl Solo {
    /// A request has come. To be called before the library looks at its connection again.
    pub(super) fn begin<B: Body>(&self, request: &Request<B>) {
        self.stage.set(Stage::Asked);
        self.version.set(request.version());
        self.queue.borrow_mut().clear();
        self.interim_left.set(PASSED_ON_MAX);
        let upload = (!request.body().is_end_stream()).then(|| {
            let expects = request
                .headers()
                .get(EXPECT)
                .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
            let held = expects && request.version() == Version::HTTP_11;
            Rc::new(if held { Upload::held() } else { Upload::default() })
        });
        self.upload.replace(upload);
    }

    /// How its body stands, where it has one.
    pub(super) fn upload(&self) -> Option<Rc<Upload>> {
        self.upload.borrow().clone()
    }

    /// Its answer begins.
    pub(super) fn answering(&self) {
        if self.stage.get() == Stage::Asked {
            self.stage.set(Stage::Answering);
        }
    }

    /// It is over.
    pub(super) fn end(&self) {
        if self.stage.replace(Stage::Idle) != Stage::Idle {
            // The library has the last of the answer, and has not written it yet.
            self.dirty.set(true);
        }
        self.upload.replace(None);
    }

    /// Whether the client knows interim answers.
    pub(super) fn takes_interim(&self) -> bool {
        self.version.get() == Version::HTTP_11
    }

    /// Passes an interim answer on, unless there were too many.
    pub(super) fn pass(&self, answer: &Interim) {
        if let Some(left) = self.interim_left.get().checked_sub(1) {
            self.interim_left.set(left);
            self.interim(&answer.written());
        }
    }

    /// Lets an interim answer go out, as far as one still may.
    fn interim(&self, answer: &[u8]) {
        let mut queue = self.queue.borrow_mut();
        let may = self.stage.get() == Stage::Asked
            && self.version.get() == Version::HTTP_11
            && !self.dirty.get()
            && queue.len() + answer.len() <= QUEUE_BYTES_MAX;
        if may {
            queue.extend_from_slice(answer);
        }
    }

    /// The library writes: `taken` is what came of it.
    pub(super) fn wrote<T>(&self, taken: &Poll<T>) {
        if self.stage.get() != Stage::Idle {
            self.dirty.set(true);
        }
        self.blocked.set(taken.is_pending());
        if let Some(ended) = &mut *self.ended.borrow_mut() {
            ended.wrote = Instant::now();
        }
    }

    /// The library has written all that it had.
    pub(super) fn flushed(&self) {
        self.dirty.set(false);
        if self.stage.get() == Stage::Idle
            && let Some(ended) = self.ended.take()
        {
            ended.reader.wake();
        }
    }

    /// Interim answers that are to go out first.
    pub(super) fn queue(&self) -> &RefCell<Vec<u8>> {
        &self.queue
    }

    /// Bytes have come.
    pub(super) fn fed(&self) {
        if let Some(upload) = &*self.upload.borrow() {
            upload.feed();
        }
    }

    /// The client has ended its side. Returns whether the library shall not know yet: it would take any end within an
    /// exchange for a broken one, and an exchange lasts until all is written. It is one where more of the body is
    /// due.
    pub(super) fn holds_end(&self, cx: &Context<'_>) -> bool {
        let upload = self.upload.borrow();
        let over = self.stage.get() == Stage::Idle && !self.dirty.get();
        if over || upload.as_ref().is_some_and(|upload| upload.is_starved()) {
            return false;
        }
        if let Some(upload) = &*upload {
            upload.read_by(cx.waker());
        }
        let mut ended = self.ended.borrow_mut();
        if ended.is_none() {
            let now = Instant::now();
            *ended = Some(Ended {
                since: now,
                wrote: now,
                asked: 0,
                asked_at: now,
                sleep: Box::pin(sleep_until(now)),
                reader: cx.waker().clone(),
            });
        }
        true
    }

    /// Ready where a client that has ended its side is taken to be gone.
    pub(super) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ended = self.ended.borrow_mut();
        let Some(ended) = &mut *ended else {
            return Poll::Pending;
        };
        let whole = self
            .upload
            .borrow()
            .as_ref()
            .is_none_or(|upload| upload.is_complete());
        if !whole {
            return Poll::Pending;
        }
        loop {
            let due = match self.stage.get() {
                Stage::Idle => return Poll::Pending,
                Stage::Answering if self.blocked.get() => return Poll::Pending,
                Stage::Answering => ended.wrote + QUIET,
                Stage::Asked if self.version.get() != Version::HTTP_11 => return Poll::Pending,
                Stage::Asked => ended.asked_next(),
            };
            if Instant::now() < due {
                ended.sleep.as_mut().reset(due);
                if ended.sleep.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
            }
            if self.stage.get() == Stage::Answering {
                return Poll::Ready(());
            }
            self.interim(QUESTION);
            ended.asked = ended.asked.saturating_add(1);
            ended.asked_at = Instant::now();
            // It is written when the library is polled next.
            cx.waker().wake_by_ref();
        }
    }

    /// The connection is to leave HTTP once the library has.
    pub(super) fn leave(&self, leaving: Leaving) {
        self.leaving.replace(Some(leaving));
    }

    /// What it leaves HTTP for.
    pub(super) fn left(&self) -> Option<Leaving> {
        self.leaving.take()
    }
}

impl Ended {
    /// When it is asked next.
    fn asked_next(&self) -> Instant {
        let index = usize::try_from(self.asked).unwrap_or(usize::MAX);
        let early = ASKED_AFTER.get(index).map(|after| self.since + *after);
        early.unwrap_or(self.asked_at + ASKED_EVERY)
    }
}
