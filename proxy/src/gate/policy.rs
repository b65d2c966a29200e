//! Who may reach which port: one policy, compiled once, for the kernel's maps and for the check at accept.
//!
//! Pure but for [`load_allowlists`], which reads the files that the configuration names. It knows no kernel.

use ipnet::IpNet;
use sallyport_config::{
    diagnostic::{Diagnostic, Location},
    model::{Config, Located, SourceRef},
};
use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

/// The largest allowlist file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// The allowlists with the contents of their files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowlists {
    lists: BTreeMap<String, Vec<IpNet>>,
}

impl Allowlists {
    /// The prefixes of a list; a name that is not there has none.
    pub fn prefixes(&self, name: &str) -> &[IpNet] {
        self.lists.get(name).map(Vec::as_slice).unwrap_or_default()
    }
}

/// Reads the files of the allowlists, relative to `base`.
///
/// # Errors
/// Every file that cannot be read and every line that is no prefix.
pub fn load_allowlists(config: &Config, base: &Path) -> Result<Allowlists, Vec<Diagnostic>> {
    let mut lists = BTreeMap::new();
    let mut problems = Vec::new();
    for (name, list) in &config.allowlists {
        let mut prefixes = list.sources.clone();
        if let Some(file) = &list.file {
            match read_file(file, base) {
                Ok(mut found) => prefixes.append(&mut found),
                Err(mut found) => problems.append(&mut found),
            }
        }
        lists.insert(name.clone(), prefixes);
    }
    if problems.is_empty() {
        Ok(Allowlists { lists })
    } else {
        Err(problems)
    }
}

fn read_file(file: &Located<PathBuf>, base: &Path) -> Result<Vec<IpNet>, Vec<Diagnostic>> {
    let path = base.join(&file.value);
    let shown = path.display();
    let refuse = |found: String| {
        let message = format!("`{shown}` {found}; the allowlist is refused; check path, owner and size");
        vec![Diagnostic {
            at: file.at.clone(),
            message,
        }]
    };
    let size = fs::metadata(&path)
        .map_err(|error| refuse(format!("cannot be read: {error}")))?
        .len();
    if size > FILE_BYTES_MAX {
        return Err(refuse(format!(
            "has {size} bytes, expected at most {FILE_BYTES_MAX}"
        )));
    }
    let text = fs::read_to_string(&path).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    parse_list(&path.display().to_string(), &text)
}

/// Parses an allowlist file: one prefix a line, `#` starts a comment.
///
/// # Errors
/// Every line that is no prefix.
pub fn parse_list(name: &str, text: &str) -> Result<Vec<IpNet>, Vec<Diagnostic>> {
    let mut prefixes = Vec::new();
    let mut problems = Vec::new();
    for (line, number) in text.lines().zip(1u32..) {
        let entry = line.split('#').next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        match parse_prefix(entry) {
            Ok(prefix) => prefixes.push(prefix),
            Err(expected) => problems.push(Diagnostic {
                at: Location {
                    file: name.into(),
                    line: number,
                    column: 1,
                },
                message: format!(
                    "`{entry}` is no prefix, expected {expected}; the allowlist is refused; mend the line"
                ),
            }),
        }
    }
    if problems.is_empty() {
        Ok(prefixes)
    } else {
        Err(problems)
    }
}

fn parse_prefix(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let prefix: IpNet = text
        .parse()
        .map_err(|_| "an address or a prefix such as `192.0.2.0/24`".to_owned())?;
    if prefix.addr() == prefix.network() {
        Ok(prefix)
    } else {
        Err(format!("`{}`", prefix.trunc()))
    }
}

/// A set of source addresses: merged, sorted ranges of each family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceSet {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl SourceSet {
    /// The union of prefixes.
    pub fn from_prefixes<'a>(prefixes: impl IntoIterator<Item = &'a IpNet>) -> Self {
        let mut set = Self::default();
        for prefix in prefixes {
            match prefix {
                IpNet::V4(net) => set.v4.push((net.network().into(), net.broadcast().into())),
                IpNet::V6(net) => set.v6.push((net.network().into(), net.broadcast().into())),
            }
        }
        set.v4 = merge(set.v4);
        set.v6 = merge(set.v6);
        set
    }

    /// Whether an address is inside. An IPv4 address that is mapped into IPv6 is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => within(&self.v4, address.into()),
            IpAddr::V6(address) => within(&self.v6, address.into()),
        }
    }

    /// Whether nobody is inside.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

fn merge<T: Copy + Ord>(mut ranges: Vec<(T, T)>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if first <= *end => *end = (*end).max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

fn within<T: Copy + Ord>(ranges: &[(T, T)], address: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= address);
    after
        .checked_sub(1)
        .and_then(|index| ranges.get(index))
        .is_some_and(|(_, last)| address <= *last)
}

/// The set that a list of references means.
pub fn resolve(sources: &[SourceRef], lists: &Allowlists) -> SourceSet {
    SourceSet::from_prefixes(prefixes(sources, lists))
}

/// The prefixes that a list of references means.
pub fn prefixes<'a>(sources: &'a [SourceRef], lists: &'a Allowlists) -> Vec<&'a IpNet> {
    let each = |source: &'a SourceRef| match source {
        SourceRef::Prefix(prefix) => std::slice::from_ref(prefix),
        SourceRef::List(name) => lists.prefixes(name),
    };
    sources.iter().flat_map(each).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    fn set(prefixes: &[&str]) -> SourceSet {
        let parsed: Vec<IpNet> = prefixes
            .iter()
            .map(|text| text.parse().expect("a prefix"))
            .collect();
        SourceSet::from_prefixes(&parsed)
    }

    #[test]
    fn edges_are_inside_and_their_neighbours_are_not() {
        let set = set(&["10.1.0.0/16", "10.1.2.0/24", "2001:db8::/32", "192.0.2.9/32"]);
        for (address, inside) in [
            ("10.1.0.0", true),
            ("10.1.255.255", true),
            ("10.0.255.255", false),
            ("10.2.0.0", false),
            ("192.0.2.9", true),
            ("192.0.2.8", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::", false),
            ("::ffff:10.1.2.3", true),
            ("::ffff:10.2.2.3", false),
        ] {
            assert_eq!(
                set.contains(address.parse().expect("an address")),
                inside,
                "{address}"
            );
        }
        assert!(!SourceSet::default().contains("127.0.0.1".parse().expect("an address")));
    }

    #[test]
    fn a_list_file_is_read_whole_or_every_bad_line_is_named() {
        let good = parse_list("l", "10.0.0.0/8\n# nobody\n\n 2001:db8::1 # one\n").expect("valid");
        assert_eq!(good.len(), 2);
        let bad = parse_list("l", "10.0.0.1/8\nx\n10.0.0.0/8\n").expect_err("invalid");
        assert_eq!(
            bad.iter().map(|problem| problem.at.line).collect::<Vec<_>>(),
            [1, 2]
        );
        assert!(bad[0].message.contains("`10.0.0.0/8`"));
    }

    proptest! {
        #[test]
        fn a_set_is_what_its_prefixes_are(nets in proptest::collection::vec((any::<u32>(), 0u8..=32), 0..20), probe in any::<u32>()) {
            let nets: Vec<IpNet> = nets.iter().map(|(address, length)| {
                let net = ipnet::Ipv4Net::new((*address).into(), *length).expect("a length of 32 at most");
                IpNet::V4(net.trunc())
            }).collect();
            let set = SourceSet::from_prefixes(&nets);
            for address in nets.iter().map(IpNet::network).chain([IpAddr::V4(probe.into())]) {
                prop_assert_eq!(set.contains(address), nets.iter().any(|net| net.contains(&address)));
            }
        }
    }
}
