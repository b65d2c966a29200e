//! Says in time that a certificate or a revocation list is about to run out: once for each threshold.

use super::{
    credentials::display,
    state::State,
    trust::{DAY, now},
};
use crate::tls::Says;
use std::collections::{BTreeMap, BTreeSet};

/// Days before the end of a certificate at which a line is written; the last one is the end itself.
const CERTIFICATE_DAYS: &[i64] = &[30, 7, 1, 0];
/// The same for a revocation list, which is made for days or weeks.
const LIST_DAYS: &[i64] = &[1, 0];

/// What ends, and when.
type Ending = (String, i64);

/// The thresholds that were said already, by what ends.
#[derive(Debug, Default)]
pub(super) struct Said(BTreeMap<Ending, i64>);

impl Said {
    /// The threshold that is worth a line now; of those that were passed at once the last one alone is.
    fn news(&mut self, ending: &Ending, thresholds: &[i64], now: i64) -> Option<i64> {
        let left = ending.1 - now;
        let lowest = *thresholds.iter().filter(|days| left <= **days * DAY).min()?;
        let before = self.0.insert(ending.clone(), lowest);
        before.is_none_or(|before| lowest < before).then_some(lowest)
    }

    /// Says what is about to run out and was not said.
    pub(super) fn look(&mut self, state: &State) {
        let now = now();
        let mut current = BTreeSet::new();
        for unit in state.loaded().tls_files.states() {
            let file = display(&unit.unit);
            match unit.says {
                Says::Certificate(facts) => {
                    let ending = (file.clone(), facts.not_after);
                    if let Some(days) = self.news(&ending, CERTIFICATE_DAYS, now) {
                        say_certificate(&file, days);
                    }
                    current.insert(ending);
                }
                Says::Revocations(lists) => {
                    for list in lists {
                        let Some(next) = list.next_update else { continue };
                        let ending = (format!("{file} {}", list.issuer), next);
                        if let Some(days) = self.news(&ending, LIST_DAYS, now) {
                            say_list(&file, &list.issuer, days);
                        }
                        current.insert(ending);
                    }
                }
                Says::Authorities(..) | Says::Nothing => {}
            }
        }
        self.0.retain(|ending, _| current.contains(ending));
    }
}

fn say_certificate(file: &str, days: i64) {
    if days == 0 {
        tracing::error!(
            file,
            "the certificate has expired and is refused by who verifies it; put a newer pair there"
        );
    } else {
        tracing::warn!(
            file,
            days,
            "the certificate expires within so many days; put a newer pair there"
        );
    }
}

fn say_list(file: &str, issuer: &str, days: i64) {
    if days == 0 {
        tracing::error!(
            file,
            issuer,
            "the revocation list has expired and clients of its issuer are refused; put a newer list there"
        );
    } else {
        tracing::warn!(
            file,
            issuer,
            days,
            "the revocation list expires within so many days and will refuse its issuer's clients; put a newer list there"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_threshold_is_news_once_and_a_newer_end_begins_anew() {
        let mut said = Said::default();
        let end = 100 * DAY;
        let mut at = |days_left: i64, end: i64| {
            said.news(&("a".to_owned(), end), CERTIFICATE_DAYS, end - days_left * DAY)
        };
        assert_eq!(at(31, end), None);
        assert_eq!((at(30, end), at(29, end)), (Some(30), None));
        assert_eq!((at(7, end), at(2, end)), (Some(7), None));
        assert_eq!((at(1, end), at(0, end), at(-1, end)), (Some(1), Some(0), None));
        assert_eq!(at(60, end + DAY), None);
        assert_eq!((at(3, end + DAY), at(3, end + DAY)), (Some(7), None));
    }
}
