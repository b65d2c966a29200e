//! The ladder on devices of this kernel, in a network namespace and on a bpffs of each test's own. They need root.

use super::{Attached, attach, place};
use crate::gate::{
    fallback::Fallback,
    interfaces::Interface,
    link::{Life, life},
    object::Object,
    pins::{Hook, Pins},
};
use aya::programs::XdpMode;
use nix::sched::{CloneFlags, unshare};
use sallyport_config::model::GateAttach;
use std::{path::Path, process::Command, thread};

/// Runs `work` in namespaces of its own, after these lines of `ip -batch`, with pins on a fresh bpffs.
fn inside(lines: &'static str, work: impl FnOnce(&Path) + Send + 'static) {
    let inside = move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
            .expect("namespaces: this test needs root");
        run("mount", "--make-rprivate /");
        run("mount", "-t tmpfs tmpfs /mnt");
        std::fs::create_dir("/mnt/bpf").expect("a fresh tmpfs");
        run("mount", "-t bpf bpf /mnt/bpf");
        ip(lines);
        work(Path::new("/mnt/bpf/gate"));
    };
    thread::spawn(inside).join().expect("the work in the namespaces");
}

fn ip(lines: &str) {
    for line in lines.lines() {
        run("ip", line);
    }
}

fn run(program: &str, words: &str) {
    let done = Command::new(program).args(words.split_whitespace()).status();
    assert!(done.expect("the program is there").success(), "{program} {words}");
}

fn pins(at: &Path, layout: u32) -> Pins {
    let pins = Pins::locate(at).expect("a bpffs").of_layout(layout);
    pins.create().expect("a directory");
    pins
}

fn embedded() -> Object {
    Object::choose(None).expect("the embedded programs")
}

fn interface(name: &str) -> Interface {
    Interface::look_up(name).expect("the interface is there")
}

fn attached(pins: &Pins, name: &str, wanted: GateAttach) -> Attached {
    attach(pins, &embedded(), 0, &interface(name), wanted).expect("a filter")
}

/// A pair, and devices of which none has native XDP.
const DEVICES: &str = "link add eth0 type veth peer name eth1\nlink set eth0 up\nlink set eth1 up\n\
                       link add br0 type bridge\nlink add mv0 link eth0 type macvlan\n\
                       tuntap add dev tun0 mode tun\nlink set lo up";

#[test]
fn each_device_has_its_rung_and_its_reason() {
    inside(DEVICES, |at| {
        let pins = pins(at, 1);
        let check = |name: &str, wanted, hook: Hook, why: &str| {
            let attached = attached(&pins, name, wanted);
            assert_eq!(attached.name.hook, hook, "{name}: {}", attached.reason);
            assert!(attached.reason.contains(why), "{name}: {}", attached.reason);
            let life = life(&pins.link(&attached.name)).expect("a look at the pin");
            assert_eq!(life, Life::On(interface(name).index), "{name}");
        };
        check("eth0", GateAttach::Auto, Hook::Xdp, "natively");
        for name in ["br0", "mv0", "lo"] {
            check(name, GateAttach::Auto, Hook::Tcx, "(no_native_xdp)");
        }
        check("tun0", GateAttach::Auto, Hook::Tcx, "(layer_three)");
        for name in ["eth0", "br0", "mv0", "lo", "tun0"] {
            check(name, GateAttach::Clsact, Hook::Clsact, "as `gate.attach` says");
            check(name, GateAttach::Clsact, Hook::Clsact, "taken over");
            check(name, GateAttach::Tc, Hook::Tcx, "as `gate.attach` says");
        }
        let refused = attach(&pins, &embedded(), 0, &interface("br0"), GateAttach::Xdp);
        let kept = refused.map(|attached| (attached.name.hook, attached.reason));
        let (hook, reason) = kept.expect("the filter that is there goes on");
        assert_eq!(hook, Hook::Tcx);
        assert!(
            reason.contains("(no_native_xdp)") && reason.contains("goes on"),
            "{reason}"
        );
    });
}

#[test]
fn a_large_mtu_is_refused_to_one_buffer_and_granted_to_several() {
    inside(DEVICES, |at| {
        ip("link set eth0 mtu 9000\nlink set eth1 mtu 9000");
        let pins = pins(at, 1);
        let eth0 = interface("eth0");
        let mut object = embedded().load(&pins, 0).expect("the programs");
        let refused = place::xdp_link(&mut object, "gate_xdp_nofrags", eth0.index, XdpMode::Driver);
        assert_eq!(refused.err(), Some(Fallback::MtuTooLarge));
        assert_eq!(attached(&pins, "eth0", GateAttach::Auto).name.hook, Hook::Xdp);
    });
}

#[test]
fn another_owners_program_is_named_and_stays() {
    inside(DEVICES, |at| {
        let theirs = pins(&at.join("theirs"), 1);
        attached(&theirs, "eth0", GateAttach::Xdp);
        let number = Interface::xdp_programs(interface("eth0").index).expect("a list");
        let ours = pins(&at.join("ours"), 1);
        let attached = attached(&ours, "eth0", GateAttach::Auto);
        assert_eq!(attached.name.hook, Hook::Tcx);
        let [number, ..] = number[..] else {
            panic!("no program in {number:?}")
        };
        let named = format!("number {number}, ");
        assert!(
            attached.reason.contains(&named) && attached.reason.contains("(foreign_xdp)"),
            "{}",
            attached.reason
        );
    });
}

#[test]
fn a_filter_of_another_kind_in_clsacts_first_place_is_left_alone() {
    inside(DEVICES, |at| {
        run("tc", "qdisc add dev br0 clsact");
        let mut add = Command::new("tc");
        add.args("filter add dev br0 ingress prio 1 protocol ip bpf bytecode".split(' '));
        let done = add.arg("1,6 0 0 0").status();
        assert!(done.expect("`tc` is there").success());
        let pins = pins(at, 1);
        let refused = attach(&pins, &embedded(), 0, &interface("br0"), GateAttach::Clsact);
        let why = refused.err().expect("no place");
        assert!(why.contains("(foreign_filter)"), "{why}");
        assert!(pins.links().expect("a list").is_empty());
    });
}

/// The numbers of the programs of clsact filters, as `tc` shows them.
fn filters(device: &str) -> String {
    let shown = Command::new("tc")
        .args(["filter", "show", "dev", device, "ingress"])
        .output()
        .expect("`tc` is there");
    String::from_utf8_lossy(&shown.stdout).into_owned()
}

#[test]
fn a_clsact_filter_goes_with_its_pin_and_leaves_others_alone() {
    inside(DEVICES, |at| {
        let (ours, theirs) = (pins(&at.join("ours"), 1), pins(&at.join("theirs"), 1));
        for pins in [&ours, &theirs] {
            attached(pins, "br0", GateAttach::Clsact);
        }
        assert_eq!(filters("br0").matches("direct-action").count(), 2);
        ours.remove_all().expect("ours can go");
        assert_eq!(filters("br0").matches("direct-action").count(), 1);
        let left = theirs.links().expect("a list");
        let on = left.first().map(|name| life(&theirs.link(name)).expect("a look"));
        assert_eq!(on, Some(Life::On(interface("br0").index)));
    });
}

#[test]
fn a_clsact_replacement_that_was_cut_short_is_ended() {
    inside(DEVICES, |at| {
        let pins = pins(at, 1);
        let first = attached(&pins, "br0", GateAttach::Clsact);
        // As after the new filter stands and before its pin has the name.
        std::fs::rename(pins.link(&first.name), pins.next(&first.name)).expect("a rename");
        let second = attached(&pins, "br0", GateAttach::Clsact);
        assert!(second.reason.contains("taken over"), "{}", second.reason);
        assert_eq!(
            filters("br0").matches("direct-action").count(),
            1,
            "{}",
            filters("br0")
        );
        assert!(pins.coming().is_empty());
    });
}

#[test]
fn what_an_older_layout_left_is_taken_over_and_then_removed() {
    for wanted in [
        GateAttach::Auto,
        GateAttach::Tc,
        GateAttach::Clsact,
        GateAttach::XdpGeneric,
    ] {
        inside(DEVICES, move |at| {
            let old = pins(at, 900);
            let first = attached(&old, "eth0", wanted);
            attached(&old, "br0", wanted);
            let new = pins(at, 901);
            let second = attached(&new, "eth0", wanted);
            assert!(second.reason.contains("taken over"), "{}", second.reason);
            assert_eq!((first.name.layout, second.name.layout), (900, 901));
            assert!(!old.link(&first.name).exists(), "the old pin stays");
            assert!(old.exist(), "the maps went before their last program");
            attached(&new, "br0", wanted);
            assert!(!old.exist(), "the old layout's maps stay");
            let on = life(&new.link(&second.name)).expect("a look");
            assert_eq!(on, Life::On(interface("eth0").index));
        });
    }
}

#[test]
fn off_finds_the_links_of_every_layout_and_leaves_other_namespaces_alone() {
    inside(DEVICES, |at| {
        let old = pins(at, 900);
        attached(&old, "eth0", GateAttach::Auto);
        let new = pins(at, 901);
        attached(&new, "br0", GateAttach::Clsact);
        let other = at.join("v900/1");
        std::fs::create_dir(&other).expect("another namespace's directory");
        crate::gate::off::take_away(&new, None).expect("all can go");
        let gone = Interface::xdp_programs(interface("eth0").index).expect("a list");
        assert!(gone.is_empty() && filters("br0").is_empty());
        assert!(!old.exist() && !new.exist() && other.exists());
    });
}

#[test]
fn two_interfaces_that_change_names_are_both_filtered_as_what_they_are_now() {
    for wanted in [GateAttach::Auto, GateAttach::Tc, GateAttach::Clsact] {
        inside(DEVICES, move |at| {
            let pins = pins(at, 1);
            let put = |number, name: &str| {
                let there = interface(name);
                let attached = attach(&pins, &embedded(), number, &there, wanted).expect("a filter");
                assert_eq!(
                    life(&pins.link(&attached.name)).expect("a look"),
                    Life::On(there.index)
                );
                attached.reason
            };
            put(0, "eth0");
            put(1, "eth1");
            ip("link set eth0 down\nlink set eth1 down\nlink set eth0 name x\n\
                link set eth1 name eth0\nlink set x name eth1");
            for (number, name) in [(0, "eth0"), (1, "eth1")] {
                let reason = put(number, name);
                assert!(reason.contains("taken over"), "{name}: {reason}");
            }
            assert_eq!(pins.links().expect("a list").len(), 2);
        });
    }
}

#[test]
fn a_filter_that_moved_away_stays_and_is_taken_over_when_it_comes_back() {
    inside(DEVICES, |at| {
        run("mkdir", "/mnt/netns");
        run("touch", "/mnt/netns/here");
        run("mount", "--bind /proc/self/ns/net /mnt/netns/here");
        run("mkdir", "-p /run/netns");
        run("mount", "-t tmpfs tmpfs /run/netns");
        run("touch", "/run/netns/here");
        run("mount", "--bind /mnt/netns/here /run/netns/here");
        ip("netns add there");
        let pins = pins(at, 1);
        let first = attached(&pins, "eth0", GateAttach::Auto);
        let number = Interface::xdp_programs(interface("eth0").index).expect("a list");
        ip("link set eth0 netns there");
        let path = pins.link(&first.name);
        assert_eq!(life(&path).expect("a look"), Life::Elsewhere);
        assert!(super::absence(&pins, "eth0").contains("another network namespace"));
        // Another one with its name and its index does not stand for it.
        ip(&format!(
            "link add eth0 index {} type veth peer name eth2",
            first.index
        ));
        assert_eq!(life(&path).expect("a look"), Life::Elsewhere);
        let second = attached(&pins, "eth0", GateAttach::Auto);
        assert!(second.reason.contains("natively"), "{}", second.reason);
        ip("link del eth0\n-n there link set eth0 netns here");
        assert_eq!(
            Interface::xdp_programs(interface("eth0").index).expect("a list"),
            number
        );
        let third = attached(&pins, "eth0", GateAttach::Auto);
        assert!(third.reason.contains("taken over"), "{}", third.reason);
        let links = pins.links().expect("a list");
        assert_eq!(links, [third.name], "pins that filter nothing");
        assert_eq!(pins.all_links().expect("a list").len(), 1);
        ip("netns del there");
    });
}
