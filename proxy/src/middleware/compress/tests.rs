//! Bodies through the encoders, in pieces of any size, with pauses and trailers.

use super::*;
use bytes::Bytes;
use http_body::{Body, Frame};
use proptest::prelude::*;
use std::{
    collections::VecDeque,
    io::{self, Read},
    pin::Pin,
    task::{Context, Poll, Waker},
};

const ALL: [Encoding; 3] = [Encoding::Gzip, Encoding::Brotli, Encoding::Zstd];

/// What a body does when it is asked.
#[derive(Clone, Debug)]
enum Act {
    Piece(Vec<u8>),
    Pause,
    Trailers,
    Break,
}

struct Acts(VecDeque<Act>);

impl Body for Acts {
    type Data = Bytes;
    type Error = crate::http::call::BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.0.pop_front() {
            None => Poll::Ready(None),
            Some(Act::Pause) => Poll::Pending,
            Some(Act::Piece(bytes)) => Poll::Ready(Some(Ok(Frame::data(bytes.into())))),
            Some(Act::Break) => Poll::Ready(Some(Err("broken".into()))),
            Some(Act::Trailers) => {
                let mut trailers = HeaderMap::new();
                trailers.insert("x-sum", HeaderValue::from_static("1"));
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
        }
    }
}

/// What came out.
#[derive(Default)]
struct Out {
    bytes: Vec<u8>,
    /// Bytes that were out at each pause.
    at_pauses: Vec<usize>,
    trailers: bool,
    broken: bool,
}

fn through(encoding: Encoding, acts: Vec<Act>) -> Out {
    let room = Arc::new(Room::default());
    let body = AnswerBody::Streamed(Box::pin(Acts(acts.into())));
    let slot = Room::slot(&room).expect("room");
    let mut body = Compressing::new(body, Encoder::new(encoding).expect("memory"), slot);
    let mut out = Out::default();
    loop {
        match Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => out.at_pauses.push(out.bytes.len()),
            Poll::Ready(None) => break,
            Poll::Ready(Some(Err(_))) => {
                out.broken = true;
                break;
            }
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => out.bytes.extend_from_slice(&data),
                Err(_) => out.trailers = true,
            },
        }
    }
    assert_eq!(body.is_end_stream(), !out.broken);
    out
}

fn plain(encoding: Encoding, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    match encoding {
        Encoding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain)?,
        Encoding::Brotli => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut plain)?,
        Encoding::Zstd => zstd::stream::read::Decoder::new(bytes)?.read_to_end(&mut plain)?,
    };
    Ok(plain)
}

#[test]
fn what_was_sent_before_a_pause_can_be_read_at_the_pause() {
    for encoding in ALL {
        let event = b"data: one\n\n".to_vec();
        let out = through(
            encoding,
            vec![Act::Piece(event.clone()), Act::Pause, Act::Pause, Act::Trailers],
        );
        assert_eq!(
            out.at_pauses.len(),
            1,
            "{encoding:?}: one pause is seen as such, one brings the piece"
        );
        let at_pause = &out.bytes[..out.at_pauses[0]];
        let mut early = vec![0; event.len()];
        let read = match encoding {
            Encoding::Gzip => flate2::read::GzDecoder::new(at_pause).read_exact(&mut early),
            Encoding::Brotli => brotli::Decompressor::new(at_pause, 4096).read_exact(&mut early),
            Encoding::Zstd => {
                zstd::stream::read::Decoder::new(at_pause).and_then(|mut zstd| zstd.read_exact(&mut early))
            }
        };
        assert!(read.is_ok() && early == event, "{encoding:?}: {read:?}");
        assert!(out.trailers, "{encoding:?}");
        assert_eq!(plain(encoding, &out.bytes).ok(), Some(event), "{encoding:?}");
    }
}

#[test]
fn a_body_that_breaks_is_not_taken_for_a_whole_one() {
    for encoding in ALL {
        let out = through(encoding, vec![Act::Piece(vec![7; 100_000]), Act::Break]);
        assert!(out.broken, "{encoding:?}");
        assert!(plain(encoding, &out.bytes).is_err(), "{encoding:?}");
    }
}

#[test]
fn encoders_are_bounded_and_give_their_places_back() {
    let room = Arc::new(Room::default());
    let mut slots: Vec<Slot> = std::iter::from_fn(|| Room::slot(&room)).collect();
    assert_eq!(slots.len(), 512);
    slots.pop();
    assert!(Room::slot(&room).is_some());
}

#[test]
fn tags_get_weak_and_vary_is_said_once() {
    for (tag, expected) in [("\"x\"", "W/\"x\""), ("W/\"x\"", "W/\"x\"")] {
        let mut headers = HeaderMap::new();
        headers.insert(ETAG, HeaderValue::from_static(tag));
        weaken(&mut headers);
        assert_eq!(headers[ETAG], expected);
    }
    for (said, count) in [("", 2), ("Accept", 2), ("accept, ACCEPT-encoding", 1), ("*", 1)] {
        let mut headers = HeaderMap::new();
        headers.insert(VARY, HeaderValue::from_static(said));
        vary(&mut headers);
        assert_eq!(headers.get_all(VARY).iter().count(), count, "{said}");
    }
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (any::<u8>(), 0_usize..70_000).prop_map(|(byte, length)| Act::Piece(vec![byte; length])),
        3 => prop::collection::vec(any::<u8>(), 0..3000).prop_map(Act::Piece),
        2 => Just(Act::Pause),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_body_comes_out_as_it_went_in(acts in prop::collection::vec(act(), 0..12)) {
        let whole: Vec<u8> = acts.iter().flat_map(|act| match act {
            Act::Piece(bytes) => bytes.clone(),
            Act::Pause | Act::Trailers | Act::Break => Vec::new(),
        }).collect();
        for encoding in ALL {
            let out = through(encoding, acts.clone());
            prop_assert_eq!(&plain(encoding, &out.bytes).expect("whole"), &whole);
        }
    }
}
