//! Whole bodies, up to a size.

use crate::{
    fault::Fault,
    http::{
        body::{BodyFault, RequestBody},
        call::AnswerBody,
    },
};
use bytes::{Bytes, BytesMut};
use http_body::Body;
use std::{future::poll_fn, pin::Pin};

/// The body of a request.
pub(super) async fn request(mut body: RequestBody, most: u64) -> Result<Bytes, Fault> {
    let mut whole = BytesMut::new();
    // A client that waits to be asked for its body is asked now.
    if let Some(upload) = body.upload() {
        upload.release();
    }
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|fault| match fault {
            BodyFault::Timeout => Fault::RequestTimeout,
            BodyFault::TooLarge => Fault::BodyTooLarge,
            BodyFault::Client(_) | BodyFault::TakenBack => Fault::BadRequest,
        })?;
        let data = frame.into_data().unwrap_or_default();
        if fits(&whole, &data, most) {
            whole.extend_from_slice(&data);
        } else {
            return Err(Fault::BodyTooLarge);
        }
    }
    Ok(whole.freeze())
}

/// The body of an answer. One that breaks off, or is longer, is none.
pub(super) async fn answer(mut body: AnswerBody, most: u64) -> Result<Bytes, Fault> {
    let mut whole = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let data = frame
            .map_err(|_| Fault::UpstreamFailed)?
            .into_data()
            .unwrap_or_default();
        if fits(&whole, &data, most) {
            whole.extend_from_slice(&data);
        } else {
            return Err(Fault::UpstreamFailed);
        }
    }
    Ok(whole.freeze())
}

fn fits(whole: &BytesMut, data: &Bytes, most: u64) -> bool {
    u64::try_from(whole.len() + data.len()).is_ok_and(|length| length <= most)
}
