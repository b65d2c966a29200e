//! Request bodies that can be sent again: what passes is remembered, up to a bound, for as long as somebody may ask.
//!
//! It must not know why a body is sent again, or whether that is safe.

use super::{
    body::{BodyFault, RequestBody},
    upload::Upload,
};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

/// Most of what is remembered that is given out at once.
const PIECE_BYTES: usize = 64 << 10;

/// A body for one sending. Another sending begins anew, and the one before has the body no longer.
pub struct Replayed {
    shared: Rc<Shared>,
    own: u32,
    begun: bool,
    /// Bytes of what is remembered that this sending has had.
    had: usize,
    had_trailers: bool,
}

struct Shared {
    source: RefCell<RequestBody>,
    remembered: RefCell<Remembered>,
    /// The sending that has the body.
    current: Cell<u32>,
    /// Sendings so far.
    sendings: Cell<u32>,
}

/// What has passed: one buffer, however small the pieces were that it came in.
struct Remembered {
    data: Vec<u8>,
    trailers: Option<HeaderMap>,
    bytes_max: usize,
    /// More has passed than is remembered, the body broke, or nobody can ask for it any more.
    lost: bool,
}

impl Remembered {
    fn forget(&mut self) {
        (self.lost, self.data, self.trailers) = (true, Vec::new(), None);
    }

    /// Copies a piece: the original may keep the whole buffer alive that it was read into.
    fn keep(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            if self.data.len().saturating_add(data.len()) > self.bytes_max {
                return self.forget();
            }
            self.data.extend_from_slice(data);
        } else if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
        }
    }
}

impl Replayed {
    /// `source`, of which up to `bytes_max` are remembered.
    pub(super) fn new(source: RequestBody, bytes_max: usize) -> Self {
        let remembered = Remembered {
            data: Vec::new(),
            trailers: None,
            bytes_max,
            lost: false,
        };
        let shared = Shared {
            source: RefCell::new(source),
            remembered: RefCell::new(remembered),
            current: Cell::new(0),
            sendings: Cell::new(0),
        };
        Self::sending(Rc::new(shared), 0)
    }

    fn sending(shared: Rc<Shared>, own: u32) -> Self {
        Self {
            shared,
            own,
            begun: false,
            had: 0,
            had_trailers: false,
        }
    }

    /// The same body from its beginning.
    pub(super) fn another(&self) -> Self {
        let own = self.shared.sendings.get().wrapping_add(1);
        self.shared.sendings.set(own);
        Self::sending(Rc::clone(&self.shared), own)
    }

    /// Whether its beginning is still there.
    pub(super) fn is_whole(&self) -> bool {
        !self.shared.remembered.borrow().lost
    }

    /// How the client's body stands, where somebody watches.
    pub(super) fn upload(&self) -> Option<Rc<Upload>> {
        self.shared.source.borrow().upload()
    }

    /// Has others see how the body of a client stands.
    pub(super) fn watch(&self, watcher: Rc<Upload>) {
        self.shared.source.borrow_mut().watch(watcher);
    }

    /// Whether this sending has the body; the first that is asked of a newer one takes it over.
    fn has_it(&mut self) -> bool {
        if self.begun {
            return self.shared.current.get() == self.own;
        }
        let may = self.own >= self.shared.current.get() && (self.own == 0 || self.is_whole());
        if may {
            self.shared.current.set(self.own);
            self.begun = true;
        }
        may
    }

    fn remember(&mut self, frame: &Frame<Bytes>) {
        let mut remembered = self.shared.remembered.borrow_mut();
        if Rc::strong_count(&self.shared) == 1 {
            remembered.forget();
        }
        if !remembered.lost {
            remembered.keep(frame);
        }
        self.had = remembered.data.len();
        self.had_trailers = remembered.trailers.is_some();
    }

    /// The next of what is remembered.
    fn again(&mut self) -> Option<Frame<Bytes>> {
        let remembered = self.shared.remembered.borrow();
        let left = remembered.data.get(self.had..).unwrap_or_default();
        let piece = left.get(..left.len().min(PIECE_BYTES)).unwrap_or_default();
        if !piece.is_empty() {
            self.had += piece.len();
            return Some(Frame::data(Bytes::copy_from_slice(piece)));
        }
        let trailers = remembered.trailers.clone().filter(|_| !self.had_trailers)?;
        self.had_trailers = true;
        Some(Frame::trailers(trailers))
    }

    /// The next frame: one that is remembered, or one from the client.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        if !self.has_it() {
            return Poll::Ready(Some(Err(BodyFault::TakenBack)));
        }
        if let Some(frame) = self.again() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let frame = ready!(Pin::new(&mut *self.shared.source.borrow_mut()).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => self.remember(frame),
            // What broke is not to look like the whole to whoever asks again.
            Some(Err(_)) => self.shared.remembered.borrow_mut().forget(),
            None => {}
        }
        Poll::Ready(frame)
    }

    /// Whether nothing more comes.
    pub(super) fn is_end_stream(&self) -> bool {
        let remembered = self.shared.remembered.borrow();
        let trailers = remembered.trailers.is_some() && !self.had_trailers;
        let left = remembered.data.len() > self.had || trailers;
        !left && self.shared.source.borrow().is_end_stream()
    }

    /// What comes yet.
    pub(super) fn size_hint(&self) -> SizeHint {
        let left = self.shared.remembered.borrow().data.len();
        let left = left.saturating_sub(self.had) as u64;
        let source = self.shared.source.borrow().size_hint();
        let mut hint = SizeHint::new();
        if let Some(upper) = source.upper() {
            hint.set_upper(upper.saturating_add(left));
        }
        hint.set_lower(source.lower().saturating_add(left));
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    /// A body of these bytes, which comes all at once.
    fn body(text: &'static str) -> RequestBody {
        RequestBody::Whole(Some(Bytes::from_static(text.as_bytes())))
    }

    fn next(sending: &mut Replayed) -> Option<Result<String, BodyFault>> {
        match sending.poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => panic!("it is all there"),
            Poll::Ready(frame) => frame.map(|frame| {
                let data = frame?.into_data().expect("data");
                Ok(String::from_utf8(data.to_vec()).expect("text"))
            }),
        }
    }

    fn all(sending: &mut Replayed) -> String {
        let pieces = std::iter::from_fn(|| next(sending));
        pieces.map(|piece| piece.expect("a piece")).collect()
    }

    /// Has so much pass, as if it came in pieces.
    fn passes(sending: &mut Replayed, pieces: &[&'static str]) {
        if !pieces.is_empty() {
            assert!(sending.has_it());
        }
        for piece in pieces {
            sending.remember(&Frame::data(Bytes::from_static(piece.as_bytes())));
        }
    }

    #[test]
    fn another_sending_begins_anew_wherever_the_one_before_stood() {
        for stood in 0..=3 {
            let mut first = Replayed::new(body("ghi"), 9);
            let mut second = first.another();
            let pieces = ["ab", "c", "def"];
            passes(&mut first, &pieces[..stood]);
            assert!(second.is_whole());
            let passed = pieces[..stood].concat();
            assert_eq!(second.size_hint().exact(), Some(passed.len() as u64 + 3));
            assert_eq!(all(&mut second), passed + "ghi", "{stood}");
            assert!(second.is_end_stream());
            assert!(
                matches!(next(&mut first), Some(Err(BodyFault::TakenBack))),
                "{stood}"
            );
        }
    }

    #[test]
    fn many_small_pieces_are_one_buffer() {
        let mut first = Replayed::new(body(""), 1000);
        let second = first.another();
        passes(&mut first, &["x"; 1000]);
        assert!(second.is_whole());
        assert!(second.shared.remembered.borrow().data.capacity() < 3000);
        passes(&mut first, &["x"]);
        assert!(!second.is_whole());
        assert_eq!(second.shared.remembered.borrow().data.capacity(), 0);
    }

    #[test]
    fn what_is_longer_than_the_bound_goes_out_once_and_whole() {
        let mut first = Replayed::new(body("abcdef"), 5);
        let mut second = first.another();
        assert_eq!(all(&mut first), "abcdef");
        assert!(!second.is_whole());
        assert!(matches!(next(&mut second), Some(Err(BodyFault::TakenBack))));
    }

    #[test]
    fn what_broke_stays_broken() {
        let broken = Replayed::new(body("abc"), 9);
        let mut inner = broken.another();
        // The source of this one is taken away from it, which is a fault of the body.
        let mut first = Replayed::new(RequestBody::Replayed(broken), 9);
        let second = first.another();
        next(&mut inner);
        assert!(matches!(next(&mut first), Some(Err(BodyFault::TakenBack))));
        assert!(!second.is_whole());
    }

    #[test]
    fn trailers_are_sent_again() {
        let mut first = Replayed::new(RequestBody::Empty, 9);
        let mut second = first.another();
        passes(&mut first, &["ab"]);
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", http::HeaderValue::from_static("1"));
        first.remember(&Frame::trailers(trailers.clone()));
        assert_eq!(next(&mut second).expect("data").expect("data"), "ab");
        assert!(!second.is_end_stream());
        let cx = &mut Context::from_waker(Waker::noop());
        let Poll::Ready(Some(Ok(frame))) = second.poll_frame(cx) else {
            panic!("no trailers")
        };
        assert_eq!(frame.into_trailers().ok(), Some(trailers));
        assert!(second.is_end_stream());
    }

    #[test]
    fn nothing_is_kept_for_nobody() {
        let mut first = Replayed::new(body("c"), 6);
        let second = first.another();
        passes(&mut first, &["ab"]);
        drop(second);
        assert_eq!(all(&mut first), "c");
        assert!(first.shared.remembered.borrow().data.is_empty());
    }
}
