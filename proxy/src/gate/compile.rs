//! The policy as the kernel's maps hold it: aggregated prefixes, each with the set of policies that it is on.
//!
//! Pure. A longest-prefix lookup finds only the most specific prefix, so membership is propagated from a
//! prefix to the more specific ones inside it: a /16 of one list must not hide a /8 of another.

use super::{inputs::Inputs, policy::Allowlists};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sallyport_config::model::Config;
use sallyport_ebpf::{
    ALLOWED_WORDS, ATTACHMENTS_MAX, Allowed, GATED_PORTS_MAX, POLICIES_MAX, PREFIXES_MAX, SETS_MAX,
    SOURCE_FAILSAFE, SourceValue,
};
use std::collections::{BTreeMap, BTreeSet};

/// Membership of a failsafe source, which is on no policy's list.
const FAILSAFE: u32 = 0;

/// A compiled policy.
#[derive(Clone, Debug)]
pub(super) struct GatePolicy {
    /// The policy identifier (from 1) of each gated port of each interface.
    pub(super) interfaces: BTreeMap<String, BTreeMap<u16, u32>>,
    /// Gated ports, sorted; the gated-port index of the maps is the position plus 1.
    pub(super) ports: Vec<u16>,
    /// Sources of IPv4.
    pub(super) v4: Vec<(Ipv4Net, SourceValue)>,
    /// Sources of IPv6.
    pub(super) v6: Vec<(Ipv6Net, SourceValue)>,
    /// The sets that each policy allows.
    pub(super) allowed: Vec<(u32, Allowed)>,
}

impl GatePolicy {
    /// Compiles the gate tables of a configuration.
    ///
    /// # Errors
    /// Where it needs more ports, policies, sets or prefixes than the maps have room for.
    pub(super) fn compile(config: &Config, lists: &Allowlists) -> Result<Self, String> {
        Self::of(&Inputs::of(config, lists))
    }

    /// Compiles inputs.
    ///
    /// # Errors
    /// As [`GatePolicy::compile`].
    pub(super) fn of(inputs: &Inputs) -> Result<Self, String> {
        let id = |list: usize| u32::try_from(list).unwrap_or(u32::MAX).saturating_add(1);
        let interfaces: BTreeMap<String, BTreeMap<u16, u32>> = inputs
            .interfaces
            .iter()
            .map(|(name, ports)| {
                let ids = ports.iter().map(|(port, gated)| (*port, id(gated.list)));
                (name.clone(), ids.collect())
            })
            .collect();
        let ports: BTreeSet<u16> = interfaces
            .values()
            .flat_map(|ports| ports.keys().copied())
            .collect();
        bounded("interfaces", interfaces.len(), ATTACHMENTS_MAX)?;
        bounded("gated ports", ports.len(), GATED_PORTS_MAX - 1)?;
        bounded("distinct allowlists", inputs.lists.len(), POLICIES_MAX - 1)?;
        let mut sets = Sets::default();
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        for (net, members) in propagate(members(inputs, id)) {
            let value = sets.value(members)?;
            match net {
                IpNet::V4(net) => v4.push((net, value)),
                IpNet::V6(net) => v6.push((net, value)),
            }
        }
        bounded("IPv4 prefixes", v4.len(), PREFIXES_MAX)?;
        bounded("IPv6 prefixes", v6.len(), PREFIXES_MAX)?;
        let ids = (0..inputs.lists.len()).map(id);
        let allowed = ids.map(|id| (id, sets.allowed(id))).collect();
        Ok(Self {
            interfaces,
            ports: ports.into_iter().collect(),
            v4,
            v6,
            allowed,
        })
    }

    /// Prefixes of both families.
    pub(super) fn prefixes(&self) -> usize {
        self.v4.len() + self.v6.len()
    }
}

/// Each prefix with the policies that it is on; 0 is [`FAILSAFE`].
fn members(inputs: &Inputs, id: impl Fn(usize) -> u32) -> BTreeMap<IpNet, BTreeSet<u32>> {
    let lists = inputs
        .lists
        .iter()
        .enumerate()
        .map(|(position, nets)| (nets, id(position)));
    let mut members: BTreeMap<IpNet, BTreeSet<u32>> = BTreeMap::new();
    for (nets, id) in lists.chain([(&inputs.failsafe, FAILSAFE)]) {
        for net in nets {
            members.entry(*net).or_default().insert(id);
        }
    }
    members
}

/// Whether the gate's maps have room for a configuration's policy.
///
/// # Errors
/// What there is too much of, and how much there may be.
pub fn check(config: &Config, lists: &Allowlists) -> Result<(), String> {
    GatePolicy::compile(config, lists).map(drop)
}

fn bounded(what: &str, count: usize, most: u32) -> Result<(), String> {
    let fits = u32::try_from(count).is_ok_and(|count| count <= most);
    if fits {
        Ok(())
    } else {
        Err(format!("{count} {what}, expected at most {most}; merge some"))
    }
}

/// Gives every prefix the members of those around it, and leaves out what adds nothing to the one around it.
fn propagate(members: BTreeMap<IpNet, BTreeSet<u32>>) -> Vec<(IpNet, BTreeSet<u32>)> {
    let mut around: Vec<(IpNet, BTreeSet<u32>)> = Vec::new();
    let mut all = Vec::with_capacity(members.len());
    // `IpNet` orders by address, then by length: what is around comes first.
    for (net, own) in members {
        while around.last().is_some_and(|(outer, _)| !outer.contains(&net)) {
            around.pop();
        }
        let outer = around.last().map(|(_, members)| members);
        let whole: BTreeSet<u32> = own.iter().chain(outer.into_iter().flatten()).copied().collect();
        if outer != Some(&whole) {
            all.push((net, whole.clone()));
        }
        around.push((net, whole));
    }
    all
}

/// Distinct sets of policies, by identifier.
#[derive(Default)]
struct Sets {
    ids: BTreeMap<BTreeSet<u32>, u32>,
}

impl Sets {
    fn value(&mut self, mut members: BTreeSet<u32>) -> Result<SourceValue, String> {
        let flags = if members.remove(&FAILSAFE) {
            SOURCE_FAILSAFE
        } else {
            0
        };
        let next = u32::try_from(self.ids.len()).unwrap_or(u32::MAX);
        let id = *self.ids.entry(members).or_insert(next);
        bounded("overlapping combinations of allowlists", self.ids.len(), SETS_MAX)?;
        Ok([id, flags])
    }

    fn allowed(&self, policy: u32) -> Allowed {
        let mut bits = [0u64; ALLOWED_WORDS];
        for (_, id) in self.ids.iter().filter(|(members, _)| members.contains(&policy)) {
            let word = usize::try_from(id / 64)
                .ok()
                .and_then(|index| bits.get_mut(index));
            if let Some(word) = word {
                *word |= 1 << (id % 64);
            }
        }
        bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert_eq, proptest};
    use std::net::{IpAddr, Ipv4Addr};

    fn config(gates: &[(u16, &[&str], &str)], failsafe: &[&str]) -> Config {
        let quoted = |list: &[&str]| {
            list.iter()
                .map(|text| format!("\"{text}\""))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let mut text = format!("[gate]\nfailsafe = [{}]\n", quoted(failsafe));
        for (index, (port, allow, interface)) in gates.iter().enumerate() {
            text += &format!(
                "[entry_points.e{index}]\naddress = \"127.0.0.{}:{port}\"\ngate = {{ interfaces = [\"{interface}\"], allow = [{}] }}\n",
                index + 1,
                quoted(allow)
            );
        }
        let source = sallyport_config::Source {
            name: "t".to_owned(),
            text,
        };
        sallyport_config::parse(&[source]).expect("a valid configuration")
    }

    fn compiled(gates: &[(u16, &[&str], &str)], failsafe: &[&str]) -> GatePolicy {
        GatePolicy::compile(&config(gates, failsafe), &Allowlists::default()).expect("it fits")
    }

    /// What the programs would find.
    fn judge(policy: &GatePolicy, interface: &str, port: u16, source: &str) -> Option<bool> {
        let id = *policy.interfaces.get(interface)?.get(&port)?;
        let source: IpAddr = source.parse().expect("an address");
        let found = match source {
            IpAddr::V4(source) => {
                let fitting = policy.v4.iter().filter(|(net, _)| net.contains(&source));
                fitting
                    .max_by_key(|(net, _)| net.prefix_len())
                    .map(|(_, value)| *value)
            }
            IpAddr::V6(source) => {
                let fitting = policy.v6.iter().filter(|(net, _)| net.contains(&source));
                fitting
                    .max_by_key(|(net, _)| net.prefix_len())
                    .map(|(_, value)| *value)
            }
        };
        let Some([set, flags]) = found else {
            return Some(false);
        };
        let allowed = policy
            .allowed
            .iter()
            .find(|(of, _)| *of == id)
            .expect("every policy has bits")
            .1;
        Some(flags & SOURCE_FAILSAFE != 0 || (allowed[set as usize / 64] >> (set % 64)) & 1 == 1)
    }

    #[test]
    fn a_specific_prefix_of_one_list_does_not_hide_a_wide_one_of_another() {
        let policy = compiled(
            &[(443, &["10.0.0.0/8"], "eth0"), (9443, &["10.1.0.0/16"], "eth0")],
            &[],
        );
        assert_eq!(judge(&policy, "eth0", 443, "10.1.2.3"), Some(true));
        assert_eq!(judge(&policy, "eth0", 9443, "10.1.2.3"), Some(true));
        assert_eq!(judge(&policy, "eth0", 9443, "10.2.2.3"), Some(false));
        assert_eq!(judge(&policy, "eth0", 80, "10.2.2.3"), None);
        assert_eq!(judge(&policy, "eth1", 443, "10.2.2.3"), None);
        assert_eq!(policy.ports, [443, 9443]);
    }

    #[test]
    fn siblings_merge_covered_prefixes_go_and_failsafe_sources_always_pass() {
        let policy = compiled(
            &[(
                443,
                &["192.0.2.0/25", "192.0.2.128/25", "192.0.2.7/32", "2001:db8::/32"],
                "eth0",
            )],
            &["203.0.113.1/32"],
        );
        assert_eq!(policy.v4.len(), 2);
        assert_eq!(judge(&policy, "eth0", 443, "192.0.2.200"), Some(true));
        assert_eq!(judge(&policy, "eth0", 443, "203.0.113.1"), Some(true));
        assert_eq!(judge(&policy, "eth0", 443, "203.0.113.2"), Some(false));
        assert_eq!(judge(&policy, "eth0", 443, "2001:db8:1::"), Some(true));
    }

    #[test]
    fn entry_points_that_share_a_port_get_the_union_and_a_warning() {
        let policy = compiled(
            &[(443, &["10.0.0.0/8"], "eth0"), (443, &["192.0.2.0/24"], "eth0")],
            &[],
        );
        assert_eq!(judge(&policy, "eth0", 443, "10.0.0.1"), Some(true));
        assert_eq!(judge(&policy, "eth0", 443, "192.0.2.1"), Some(true));
        let config = config(
            &[(443, &["10.0.0.0/8"], "eth0"), (443, &["192.0.2.0/24"], "eth0")],
            &[],
        );
        let inputs = Inputs::of(&config, &Allowlists::default());
        assert_eq!(inputs.warnings.len(), 1);
        assert_eq!(inputs.policies(), BTreeSet::from([("eth0", "e0+e1")]));
    }

    #[test]
    fn more_than_the_maps_hold_is_refused() {
        let gates: Vec<String> = (1..=256)
            .map(|i| format!("10.{}.{}.0/24", i / 200, i % 200))
            .collect();
        let texts: Vec<[&str; 1]> = gates.iter().map(|text| [text.as_str()]).collect();
        let all: Vec<(u16, &[&str], &str)> = (1000u16..)
            .zip(&texts)
            .map(|(port, text)| (port, &text[..], "eth0"))
            .collect();
        let config = |count: usize| {
            let mut text = String::new();
            for (port, allow, interface) in &all[..count] {
                text += &format!(
                    "[entry_points.e{port}]\naddress = \"127.0.0.1:{port}\"\ngate = {{ interfaces = [\"{interface}\"], allow = [\"{}\"] }}\n",
                    allow[0]
                );
            }
            sallyport_config::parse(&[sallyport_config::Source {
                name: "t".to_owned(),
                text,
            }])
            .expect("valid")
        };
        assert!(GatePolicy::compile(&config(255), &Allowlists::default()).is_ok());
        assert!(GatePolicy::compile(&config(256), &Allowlists::default()).is_err());
    }

    proptest! {
        #[test]
        fn the_maps_say_what_the_lists_say(
            lists in proptest::collection::vec(proptest::collection::vec((any::<u32>(), 0u8..=32), 1..8), 1..6),
            probes in proptest::collection::vec(any::<u32>(), 10),
        ) {
            let lists: Vec<Vec<String>> = lists.iter().map(|list| list.iter().map(|(address, length)| {
                ipnet::Ipv4Net::new((*address).into(), *length).expect("at most 32").trunc().to_string()
            }).collect()).collect();
            let texts: Vec<Vec<&str>> = lists.iter().map(|list| list.iter().map(String::as_str).collect()).collect();
            let gates: Vec<(u16, &[&str], &str)> = (1000u16..).zip(&texts).map(|(port, list)| (port, &list[..], "eth0")).collect();
            let policy = compiled(&gates, &[]);
            for (port, list, interface) in &gates {
                let nets: Vec<Ipv4Net> = list.iter().map(|text| text.parse().expect("a prefix")).collect();
                let edges = nets.iter().flat_map(|net| [net.network(), net.broadcast()]);
                for probe in edges.chain(probes.iter().map(|probe| Ipv4Addr::from(*probe))) {
                    let expected = nets.iter().any(|net| net.contains(&probe));
                    prop_assert_eq!(judge(&policy, interface, *port, &probe.to_string()), Some(expected));
                }
            }
        }
    }
}
