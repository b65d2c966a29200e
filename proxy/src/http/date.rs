//! The `Date` field of answers that come without one (RFC 9110 section 6.6.1), written once a second.

use http::HeaderValue;
use std::{
    cell::RefCell,
    time::{Duration, SystemTime},
};

thread_local! {
    /// Until when the value is true, and the value.
    static WRITTEN: RefCell<(SystemTime, HeaderValue)> =
        const { RefCell::new((SystemTime::UNIX_EPOCH, HeaderValue::from_static(""))) };
}

/// The value for now.
pub fn now() -> HeaderValue {
    at(SystemTime::now())
}

fn at(now: SystemTime) -> HeaderValue {
    WRITTEN.with_borrow_mut(|(until, value)| {
        // A clock that was set back makes it false too.
        let left = until.duration_since(now).unwrap_or_default();
        if left.is_zero() || left > Duration::from_secs(1) {
            let whole = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            *until = SystemTime::UNIX_EPOCH + Duration::from_secs(whole.as_secs() + 1);
            if let Ok(fresh) = HeaderValue::try_from(httpdate::fmt_http_date(now)) {
                *value = fresh;
            }
        }
        value.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_anew_when_its_second_is_over_and_when_the_clock_was_set_back() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (millis, expected) in [
            (0, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (999, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (1000, "Sun, 06 Nov 1994 08:49:38 GMT"),
            (100, "Sun, 06 Nov 1994 08:49:37 GMT"),
        ] {
            assert_eq!(at(start + Duration::from_millis(millis)), expected, "{millis}");
        }
    }
}
