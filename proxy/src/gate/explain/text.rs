//! An explanation for people.

use super::{AcceptVerdict, AtAccept, AtInterface, Explanation, KernelVerdict, Match, Running};
use sallyport_ebpf::Reason;
use std::fmt;

/// Matches that a line names.
const MATCHES_SHOWN: usize = 4;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            source,
            port,
            mode,
            destinations,
            ..
        } = self;
        writeln!(
            f,
            "{source} to port {port}: mode `{mode}`, destinations `{destinations}`"
        )?;
        for prefix in &self.failsafe {
            writeln!(f, "failsafe: {prefix} holds it, so no policy shuts it out")?;
        }
        writeln!(f, "kernel:")?;
        if self.interfaces.is_empty() {
            writeln!(f, "  no interface is gated, so it judges nothing")?;
        }
        for interface in &self.interfaces {
            writeln!(
                f,
                "  {}: {}{}",
                interface.interface,
                at_interface(interface),
                self.attached(interface)
            )?;
        }
        writeln!(f, "accept:")?;
        if self.entry_points.is_empty() {
            writeln!(f, "  no entry point has this port")?;
        }
        for entry_point in &self.entry_points {
            let way = if entry_point.listens { "" } else { " behind DNAT" };
            let AtAccept {
                entry_point: name,
                address,
                ..
            } = entry_point;
            writeln!(f, "  `{name}` ({address}{way}): {}", at_accept(entry_point))?;
        }
        writeln!(f, "{}", self.running())
    }
}

impl Explanation {
    /// A judgement means little where nothing is attached.
    fn attached(&self, interface: &AtInterface) -> String {
        let Running::Gate(told) = &self.running else {
            return String::new();
        };
        let here = told
            .interfaces
            .iter()
            .find(|attached| attached.name == interface.interface);
        match here {
            Some(attached) if attached.actual == "none" => {
                format!("; but nothing is attached here now: {}", attached.reason)
            }
            Some(attached) if attached.destinations == "local" => {
                format!(" [{}, for addresses of this host]", attached.actual)
            }
            Some(attached) => format!(" [{}]", attached.actual),
            None => String::new(),
        }
    }

    fn running(&self) -> String {
        match &self.running {
            Running::Unasked => "running gate: not asked".to_owned(),
            Running::Silent(why) => format!("running gate: no answer ({why}); this is what the files say"),
            Running::Gate(told) => {
                let (does, keeps) = match &told.trial {
                    None => ("judges by", ""),
                    Some(_) => ("tries", " until it is confirmed or its time is up"),
                };
                match self.same {
                    Some(true) => format!("running gate: it {does} this policy{keeps}"),
                    Some(false) => format!(
                        "running gate: it {does} another policy than the files say{keeps}; `sallyport gate apply` makes it read them"
                    ),
                    None => {
                        "running gate: it does not say by which policy it judges; this is what the files say"
                            .to_owned()
                    }
                }
            }
        }
    }
}

fn at_interface(at: &AtInterface) -> String {
    let shared = match at.entry_points.as_slice() {
        [] | [_] => String::new(),
        all => format!("; {} share the port, the kernel allows the union", names(all)),
    };
    let prefix = at.prefix.map_or_else(
        || "no prefix in the maps holds it".to_owned(),
        |prefix| format!("{prefix} is the longest prefix in the maps"),
    );
    let code = at.reason.code();
    match (at.reason, at.verdict) {
        (_, KernelVerdict::Off) => "passes: the mode is `off`, only accept judges".to_owned(),
        (Reason::NotGated, _) => format!("passes ({code}): the port is not gated here"),
        (Reason::Failsafe, _) => format!("passes ({code}): {prefix}{shared}"),
        (_, KernelVerdict::Pass) => format!(
            "passes ({code}): allowed by {}; {prefix}{shared}",
            names(&at.allowed_by)
        ),
        (_, KernelVerdict::Observe) => {
            format!(
                "passes, and would be dropped ({code}): {} does not allow it; {prefix}{shared}",
                names(&at.entry_points)
            )
        }
        (_, KernelVerdict::Drop) => {
            format!(
                "dropped ({code}): {} does not allow it; {prefix}{shared}",
                names(&at.entry_points)
            )
        }
    }
}

fn at_accept(at: &AtAccept) -> String {
    let by = matched(&at.matches);
    match at.verdict {
        AcceptVerdict::NotGated => "admitted: it has no gate".to_owned(),
        AcceptVerdict::Admitted if at.matches.is_empty() => "admitted: a failsafe source".to_owned(),
        AcceptVerdict::Admitted => format!("admitted by {by}"),
        AcceptVerdict::Observed => "let in, and would be closed: no prefix of `allow` holds it".to_owned(),
        AcceptVerdict::Refused => "closed: no prefix of `allow` holds it".to_owned(),
    }
}

fn matched(matches: &[Match]) -> String {
    let one = |found: &Match| {
        let list = found.allowlist.as_ref().map_or_else(
            || " in `allow`".to_owned(),
            |name| format!(" of allowlist `{name}`"),
        );
        let file = found
            .file
            .as_ref()
            .map_or_else(String::new, |file| format!(" (file `{}`)", file.display()));
        format!("{}{list}{file}", found.prefix)
    };
    let mut shown: Vec<String> = matches.iter().take(MATCHES_SHOWN).map(one).collect();
    if matches.len() > MATCHES_SHOWN {
        shown.push(format!("{} more", matches.len() - MATCHES_SHOWN));
    }
    shown.join(", ")
}

fn names(all: &[String]) -> String {
    let quoted: Vec<String> = all.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}
