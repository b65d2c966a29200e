//! A view as text: a plain block for a pipe, a frame that fits for a screen. Pure, and free of escape sequences: names
//! that would carry some lose them.

use super::rates::{Figure, Row, Source, View};
use std::{fmt::Write as _, num::NonZeroUsize, time::Duration};

/// Columns and lines of a screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    /// Characters of a line.
    pub(super) columns: usize,
    /// Lines.
    pub(super) lines: usize,
}

/// What a frame has to fit in and to say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// The screen.
    pub(super) size: Size,
    /// Sources that are wanted; as many as fit where absent.
    pub(super) sources: Option<NonZeroUsize>,
    /// From one look to the next.
    pub(super) interval: Duration,
}

/// A block for a pipe: all interfaces and policies, all reasons, up to `sources` sources, an empty line.
pub(super) fn block(view: &View, sources: usize) -> String {
    let mut lines = rows(&view.rows, view.rows.len());
    lines.push(reasons(view));
    lines.extend(source_lines(&view.sources, sources));
    lines.push(format!("events lost: {}", view.events_lost));
    lines.push(String::new());
    lines.iter().fold(String::new(), |mut text, line| {
        text.push_str(line);
        text.push('\n');
        text
    })
}

/// The lines of a screen, none longer and no more than fit. Sources have what the rest leaves, and at least half.
pub(super) fn frame(view: &View, trouble: Option<&str>, room: Room) -> Vec<String> {
    let Size {
        columns,
        lines: height,
    } = room.size;
    let mut lines = vec![format!(
        "sallyport gate top, every {:?}, events lost {}, q ends",
        room.interval, view.events_lost
    )];
    lines.extend(trouble.map(|why| format!("! {}", plain(why))));
    lines.push(String::new());
    // Two headings, two empty lines, the reasons.
    let left = height.saturating_sub(lines.len() + 5);
    lines.extend(rows(&view.rows, view.rows.len().min(left / 2)));
    lines.extend([String::new(), reasons(view), String::new()]);
    let fitting = height.saturating_sub(lines.len() + 1);
    let wanted = room.sources.map_or(fitting, |wanted| wanted.get().min(fitting));
    lines.extend(source_lines(&view.sources, wanted));
    lines.truncate(height);
    lines
        .into_iter()
        .map(|line| line.chars().take(columns).collect())
        .collect()
}

/// A heading and `most` rows; the last of them says how many are left out.
fn rows(rows: &[Row], most: usize) -> Vec<String> {
    let width = |text: fn(&Row) -> usize, least: usize| rows.iter().map(text).max().unwrap_or(0).max(least);
    let interfaces = width(|row| row.interface.chars().count(), "interface".len());
    let policies = width(
        |row| row.policy.as_deref().map_or(0, |name| name.chars().count()),
        "policy".len(),
    );
    let line = |interface: &str, policy: &str, figures: [String; 6]| {
        let [pass, drop, observe, passed, dropped, observed] = figures;
        format!(
            "{interface:interfaces$}  {policy:policies$}  {pass:>8} {drop:>8} {observe:>9}  {passed:>12} {dropped:>12} {observed:>12}"
        )
    };
    let heading = ["pass/s", "drop/s", "observe/s", "passed", "dropped", "observed"].map(str::to_owned);
    let mut lines = vec![line("interface", "policy", heading)];
    lines.extend(cut(rows.len(), most, |index| {
        let row = rows.get(index)?;
        let (passed, dropped, observed) = (row.passed, row.dropped, row.observed);
        let totals = [passed, dropped, observed].map(|figure| figure.total.to_string());
        let [pass, drop, observe] = [passed, dropped, observed].map(rate);
        let [passed, dropped, observed] = totals;
        let figures = [pass, drop, observe, passed, dropped, observed];
        Some(line(
            &plain(&row.interface),
            &plain(row.policy.as_deref().unwrap_or("all")),
            figures,
        ))
    }));
    lines
}

fn source_lines(sources: &[Source], most: usize) -> Vec<String> {
    if sources.is_empty() {
        return vec!["dropped sources: none".to_owned()];
    }
    let line = |address: &str, interface: &str, packets: &str, total: &str| {
        format!("{address:39}  {interface:15}  {packets:>9} {total:>14}")
    };
    let mut lines = vec![line("dropped source", "interface", "packets/s", "packets, about")];
    lines.extend(cut(sources.len(), most, |index| {
        let source = sources.get(index)?;
        let (address, total) = (source.address.to_string(), source.packets.total.to_string());
        Some(line(
            &address,
            &plain(&source.interface),
            &rate(source.packets),
            &total,
        ))
    }));
    lines
}

/// Up to `most` lines of `count`; where that is not all, the last one says how many more there are.
fn cut(count: usize, most: usize, line: impl Fn(usize) -> Option<String>) -> Vec<String> {
    if count <= most {
        return (0..count).filter_map(line).collect();
    }
    let shown = most.saturating_sub(1);
    let rest = (most > 0).then(|| format!("and {} more", count - shown));
    (0..shown).filter_map(line).chain(rest).collect()
}

fn reasons(view: &View) -> String {
    let mut text = String::from("reasons:");
    for (code, figure) in &view.reasons {
        let separator = if text.ends_with(':') { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "{separator} {} {}/s ({})",
            plain(code),
            rate(*figure),
            figure.total
        );
    }
    if view.reasons.is_empty() {
        text.push_str(" none");
    }
    text
}

/// Three digits and a unit; a dash where it is not known.
fn rate(figure: Figure) -> String {
    let Some(mut rate) = figure.rate else {
        return "-".to_owned();
    };
    let mut units = ["", "k", "M", "G"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    // 999.5 would be shown as four digits.
    while rate >= 999.5 {
        let Some(larger) = units.next() else { break };
        unit = larger;
        rate /= 1000.0;
    }
    match rate {
        0.0 => "0".to_owned(),
        rate if rate < 9.995 => format!("{rate:.2}{unit}"),
        rate if rate < 99.95 => format!("{rate:.1}{unit}"),
        rate => format!("{rate:.0}{unit}"),
    }
}

/// A text without control characters.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(total: u64, rate: f64) -> Figure {
        Figure {
            total,
            rate: Some(rate),
        }
    }

    fn view(policies: usize, sources: usize) -> View {
        let row = |policy: Option<String>| Row {
            interface: "eth0".to_owned(),
            policy,
            passed: figure(1_234_567, 120.0),
            dropped: figure(98_765_432, 3_200_000.0),
            observed: Figure { total: 0, rate: None },
        };
        View {
            rows: std::iter::once(None)
                .chain((0..policies).map(|i| Some(format!("web{i}"))))
                .map(row)
                .collect(),
            reasons: vec![
                ("source".to_owned(), figure(98_765_432, 3_200_000.0)),
                ("allowed".to_owned(), figure(7, 0.0)),
            ],
            sources: (0..sources)
                .map(|index| Source {
                    address: std::net::Ipv4Addr::from(0xc633_6400 + u32::try_from(index).expect("few"))
                        .into(),
                    interface: "eth0".to_owned(),
                    packets: figure(64, 9.0),
                })
                .collect(),
            events_lost: 3,
        }
    }

    #[test]
    fn a_block_has_a_line_for_everything() {
        let text = block(&view(1, 3), 2);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3 + 1 + 3 + 1 + 1, "{text}");
        assert!(lines[0].starts_with("interface  policy"), "{text}");
        let words: Vec<&str> = lines[2].split_whitespace().collect();
        assert_eq!(
            words,
            ["eth0", "web0", "120", "3.20M", "-", "1234567", "98765432", "0"]
        );
        assert_eq!(lines[3], "reasons: source 3.20M/s (98765432), allowed 0/s (7)");
        let words: Vec<&str> = lines[5].split_whitespace().collect();
        assert_eq!(words, ["198.51.100.0", "eth0", "9.00", "64"]);
        assert_eq!(lines[6], "and 2 more");
        assert_eq!(lines[7], "events lost: 3");
        let none = block(
            &View {
                reasons: Vec::new(),
                ..view(0, 0)
            },
            2,
        );
        assert!(none.contains("reasons: none\ndropped sources: none\n"), "{none}");
    }

    #[test]
    fn a_frame_fits_every_screen() {
        for policies in [0, 1, 40] {
            for sources in [0, 1, 100] {
                for columns in [0, 1, 40, 80, 200] {
                    for height in [0, 1, 2, 5, 8, 24, 60] {
                        let room = Room {
                            size: Size {
                                columns,
                                lines: height,
                            },
                            sources: None,
                            interval: Duration::from_secs(1),
                        };
                        for trouble in [None, Some("the gate does not answer")] {
                            let lines = frame(&view(policies, sources), trouble, room);
                            assert!(
                                lines.len() <= height,
                                "{policies} {sources} {columns} {height}: {lines:?}"
                            );
                            assert!(lines.iter().all(|line| line.chars().count() <= columns));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_frame_shows_sources_beside_many_policies_and_the_number_that_is_asked_for() {
        let room = |sources: Option<usize>| Room {
            size: Size {
                columns: 100,
                lines: 24,
            },
            sources: sources.and_then(NonZeroUsize::new),
            interval: Duration::from_secs(1),
        };
        let count = |lines: &[String]| lines.iter().filter(|line| line.starts_with("198.51.")).count();
        let full = frame(&view(40, 100), None, room(None));
        assert!(count(&full) >= 7, "{full:#?}");
        assert!(full.iter().any(|line| line == "and 34 more"), "{full:#?}");
        assert_eq!(full.len(), 24);
        assert_eq!(count(&frame(&view(1, 5), None, room(Some(5)))), 5);
        assert_eq!(
            count(&frame(&view(1, 100), None, room(Some(5)))),
            4,
            "and a line for the rest"
        );
        let trouble = frame(&view(1, 1), Some("gone"), room(None));
        assert!(trouble.iter().any(|line| line == "! gone"));
    }

    #[test]
    fn rates_have_three_digits() {
        for (value, expected) in [
            (0.0, "0"),
            (0.5, "0.50"),
            (9.994, "9.99"),
            (9.996, "10.0"),
            (99.94, "99.9"),
            (99.96, "100"),
            (999.4, "999"),
            (999.6, "1.00k"),
            (12_345.0, "12.3k"),
            (999_600.0, "1.00M"),
            (5e9, "5.00G"),
            (5e12, "5000G"),
        ] {
            assert_eq!(rate(figure(0, value)), expected, "{value}");
        }
        assert_eq!(rate(Figure { total: 1, rate: None }), "-");
    }

    #[test]
    fn a_name_carries_no_escape_sequence() {
        let mut view = view(1, 1);
        view.rows[1].policy = Some("a\x1b[2Jb".to_owned());
        view.sources[0].interface = "\x07\n".to_owned();
        let text = block(&view, 5);
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert_eq!(text.lines().count(), block(&self::view(1, 1), 5).lines().count());
    }
}
