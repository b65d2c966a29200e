//! Makes rules of requests and of connections, right ones and nearly right ones.

use crate::{mutate::mutate, random::Random};

/// How far the bytes reach that decide most.
const FRONT: usize = 80;

/// One input.
pub(crate) fn input(random: &mut Random) -> Vec<u8> {
    let text = match random.below(20) {
        0 => soup(random),
        1 => deep(random),
        _ => {
            let over_tcp = random.one_in(4);
            rule(random, over_tcp)
        }
    };
    let mut bytes = text.into_bytes();
    if random.one_in(4) {
        mutate(random, &mut bytes, FRONT);
    }
    bytes
}

/// Calls, joined; parentheses are opened anywhere and closed at the end of what they opened before.
fn rule(random: &mut Random, over_tcp: bool) -> String {
    let (mut text, mut open) = (String::new(), 0);
    for index in 0..=random.below(6) {
        if index > 0 {
            // Rarely something that joins nothing.
            let joints = [" && ", " || ", "&&", "||", "\n&&\t", " & ", " "];
            let count = if random.one_in(12) { 7 } else { 5 };
            text += joints[random.below(count)];
        }
        while random.one_in(4) {
            text += random.pick(&["!", "(", "! (", "!!"]);
            open += usize::from(text.ends_with('('));
        }
        text += &if over_tcp {
            of_connections(random)
        } else {
            of_requests(random)
        };
        if open > 0 && random.one_in(3) {
            text.push(')');
            open -= 1;
        }
    }
    text + &")".repeat(if random.one_in(20) {
        open.saturating_sub(1)
    } else {
        open
    })
}

fn of_requests(random: &mut Random) -> String {
    let (call, arguments) = random.pick(&[
        ("Host", &["`a.example`"][..]),
        ("host", &["`*.example`"]),
        ("HOST", &["`*`"]),
        ("Host", &["`a:80`"]),
        ("HostRegexp", &[r"`^v[0-9]+\.example$`"]),
        ("Hostregexp", &["`(`"]),
        ("Path", &["\"/x\""]),
        ("PathPrefix", &["`/v1`"]),
        ("Pathprefix", &["`v1`"]),
        ("PathRegexp", &[r#""^/\\d+$""#]),
        ("Method", &["`GET`"]),
        ("Header", &["`X-A`", "`b`"]),
        ("HeaderRegexp", &["`X-A`", "`^b`"]),
        ("Query", &["`q`"]),
        ("Query", &["`q`", "``"]),
        ("QueryRegexp", &["`q`", "`[`"]),
        ("ClientIP", &["`10.0.0.0/8`"]),
        ("ClientIP", &["`10.0.0.1/8`"]),
        ("HostSNI", &["`a.example`"]),
        ("Nobody", &["`x`"]),
        ("Host", &[]),
        ("Header", &["`X-A`"]),
    ]);
    called(random, call, arguments)
}

fn of_connections(random: &mut Random) -> String {
    let (call, arguments) = random.pick(&[
        ("HostSNI", &["`db.example`"][..]),
        ("HostSNI", &["`*`"]),
        ("Hostsni", &["`*.example`"]),
        ("HostSNIRegexp", &["`^db`"]),
        ("ClientIP", &["`192.0.2.1`"]),
        ("ALPN", &["`postgresql`"]),
        ("alpn", &["`acme-tls/1`"]),
    ]);
    called(random, call, arguments)
}

fn called(random: &mut Random, call: &str, arguments: &[&str]) -> String {
    let (open, comma) = (random.pick(&["(", " ( "]), random.pick(&[",", " , "]));
    format!("{call}{open}{})", arguments.join(comma))
}

/// Around the deepest that is taken.
fn deep(random: &mut Random) -> String {
    let levels = 60 + random.below(10);
    match random.below(3) {
        0 => format!("{}Path(`/`){}", "(".repeat(levels), ")".repeat(levels)),
        1 => format!("{}Path(`/`)", "!".repeat(levels)),
        _ => format!(
            "{}Path(`/`){}",
            "Path(`/`) || (".repeat(levels),
            ")".repeat(levels)
        ),
    }
}

fn soup(random: &mut Random) -> String {
    let pieces = [
        "Host",
        "Path",
        "(",
        ")",
        "!",
        "&&",
        "||",
        ",",
        "`/a`",
        "\"b\"",
        " ",
        "&",
        "\"\\",
        "`",
        "\u{e9}",
        "Query(`q`)",
    ];
    (0..random.below(20)).map(|_| random.pick(&pieces)).collect()
}
