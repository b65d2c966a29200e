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

/// A body for one sending. Another sending begins anew, and the one before has the body no longer.
pub struct Replayed {
    shared: Rc<Shared>,
    own: u32,
    begun: bool,
    /// Pieces of what is remembered that this sending has had.
    had: usize,
}

struct Shared {
    source: RefCell<RequestBody>,
    remembered: RefCell<Remembered>,
    /// The sending that has the body.
    current: Cell<u32>,
    /// Sendings so far.
    sendings: Cell<u32>,
}

struct Remembered {
    pieces: Vec<Piece>,
    bytes: usize,
    bytes_max: usize,
    /// More has passed than is remembered, or nobody can ask for it any more.
    lost: bool,
}

enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Piece {
    fn frame(&self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data.clone()),
            Self::Trailers(trailers) => Frame::trailers(trailers.clone()),
        }
    }

    fn length(&self) -> usize {
        match self {
            Self::Data(data) => data.len(),
            Self::Trailers(_) => 0,
        }
    }
}

impl Remembered {
    fn forget(&mut self) {
        (self.lost, self.pieces) = (true, Vec::new());
    }

    /// Copies a piece: the original may keep the whole buffer alive that it was read into.
    fn keep(&mut self, frame: &Frame<Bytes>) {
        let piece = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => {
                self.bytes = self.bytes.saturating_add(data.len());
                if self.bytes > self.bytes_max {
                    return self.forget();
                }
                Piece::Data(Bytes::copy_from_slice(data))
            }
            (None, Some(trailers)) => Piece::Trailers(trailers.clone()),
            (None, None) => return self.forget(),
        };
        self.pieces.push(piece);
    }
}

impl Replayed {
    /// `source`, of which up to `bytes_max` are remembered.
    pub(super) fn new(source: RequestBody, bytes_max: usize) -> Self {
        let remembered = Remembered {
            pieces: Vec::new(),
            bytes: 0,
            bytes_max,
            lost: false,
        };
        let shared = Shared {
            source: RefCell::new(source),
            remembered: RefCell::new(remembered),
            current: Cell::new(0),
            sendings: Cell::new(0),
        };
        Self {
            shared: Rc::new(shared),
            own: 0,
            begun: false,
            had: 0,
        }
    }

    /// The same body from its beginning.
    pub(super) fn another(&self) -> Self {
        let own = self.shared.sendings.get().wrapping_add(1);
        self.shared.sendings.set(own);
        Self {
            shared: Rc::clone(&self.shared),
            own,
            begun: false,
            had: 0,
        }
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
        self.had = remembered.pieces.len();
    }

    /// The next frame: one that is remembered, or one from the client.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        if !self.has_it() {
            return Poll::Ready(Some(Err(BodyFault::TakenBack)));
        }
        let again = self
            .shared
            .remembered
            .borrow()
            .pieces
            .get(self.had)
            .map(Piece::frame);
        if let Some(frame) = again {
            self.had += 1;
            return Poll::Ready(Some(Ok(frame)));
        }
        let frame = ready!(Pin::new(&mut *self.shared.source.borrow_mut()).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            self.remember(frame);
        }
        Poll::Ready(frame)
    }

    /// Whether nothing more comes.
    pub(super) fn is_end_stream(&self) -> bool {
        let left = self.shared.remembered.borrow().pieces.len() > self.had;
        !left && self.shared.source.borrow().is_end_stream()
    }

    /// What comes yet.
    pub(super) fn size_hint(&self) -> SizeHint {
        let remembered = self.shared.remembered.borrow();
        let left = remembered
            .pieces
            .iter()
            .skip(self.had)
            .map(Piece::length)
            .sum::<usize>();
        let (left, source) = (left as u64, self.shared.source.borrow().size_hint());
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

    /// A body that comes in these pieces: as one that is sent again, which has no other source.
    fn body(pieces: &[&'static str]) -> RequestBody {
        let body = Replayed::new(RequestBody::Empty, 0);
        let pieces = pieces
            .iter()
            .map(|piece| Piece::Data(Bytes::from_static(piece.as_bytes())));
        body.shared.remembered.borrow_mut().pieces.extend(pieces);
        RequestBody::Replayed(body)
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
        std::iter::from_fn(|| next(sending))
            .map(|piece| piece.expect("a piece"))
            .collect()
    }

    #[test]
    fn another_sending_begins_anew_wherever_the_one_before_stood() {
        for stood in 0..=3 {
            let mut first = Replayed::new(body(&["ab", "c", "def"]), 6);
            let mut second = first.another();
            for _ in 0..stood {
                next(&mut first);
            }
            assert!(second.is_whole());
            assert_eq!(second.size_hint().exact(), Some(6));
            assert_eq!(all(&mut second), "abcdef", "{stood}");
            assert!(second.is_end_stream());
            assert!(
                matches!(next(&mut first), Some(Err(BodyFault::TakenBack))),
                "{stood}"
            );
        }
    }

    #[test]
    fn what_is_longer_than_the_bound_goes_out_once_and_whole() {
        let mut first = Replayed::new(body(&["ab", "c", "def"]), 5);
        let mut second = first.another();
        assert_eq!(all(&mut first), "abcdef");
        assert!(!second.is_whole());
        assert!(matches!(next(&mut second), Some(Err(BodyFault::TakenBack))));
    }

    #[test]
    fn nothing_is_kept_for_nobody() {
        let mut first = Replayed::new(body(&["ab", "c"]), 6);
        drop(first.another());
        next(&mut first);
        assert!(first.shared.remembered.borrow().pieces.is_empty());
        assert_eq!(all(&mut first), "c");
        let mut first = Replayed::new(body(&["ab", "c"]), 6);
        let second = first.another();
        next(&mut first);
        drop(second);
        assert_eq!(all(&mut first), "c");
        assert!(first.shared.remembered.borrow().pieces.is_empty());
    }
}
