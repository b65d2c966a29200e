//! Uplinks and children, for the status: who may use what is advertised and who did; what is known of every child, and why
//! something of it is not used.
//!
//! It reads what is held and changes nothing.

use super::state::State;
use crate::{
    balance::{Health, Moment},
    snapshot::{Proof, PublishedUplink, Side, Snapshot},
    uplink::{
        directory::{ChildState, Refusal, View},
        usage::Usage,
        wire::Advertised,
    },
};
use sallyport_config::model::{Config, Uplink};
use serde::Serialize;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// One uplink.
#[derive(Debug, Serialize)]
pub(super) struct UplinkStatus {
    name: String,
    entry_points: Vec<String>,
    weight: u32,
    /// Names of which a parent's certificate must carry one; empty: `allowed` says who.
    parents: Vec<String>,
    /// Who may use it, an entry point each.
    allowed: Vec<String>,
    /// Who did since the start, the last one first.
    used_by: Vec<ParentStatus>,
    /// Requests of parents that were too many to be told apart.
    #[serde(skip_serializing_if = "is_zero")]
    requests_of_others: u64,
}

/// A parent that used an uplink.
#[derive(Debug, Serialize)]
pub(super) struct ParentStatus {
    /// What its certificate names, or its address.
    name: String,
    requests: u64,
    last_request_seconds_ago: u64,
}

/// One child.
#[derive(Debug, Serialize)]
pub(super) struct ChildStatus {
    name: String,
    address: String,
    /// `unknown`, `fresh`, `stale` or `expired`.
    state: &'static str,
    /// Since it said that its answer holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_answer_seconds_ago: Option<u64>,
    /// Since the end of the last poll.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_poll_seconds_ago: Option<u64>,
    /// How many different answers it has given.
    generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    /// Those that are in services.
    uplinks: Vec<String>,
    /// All that it offers.
    offers: Vec<OfferStatus>,
    polls: PollCounts,
    /// Why the last poll failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
}

/// How the polls of a child ended.
#[derive(Debug, Serialize)]
struct PollCounts {
    changed: u64,
    unchanged: u64,
    failed: u64,
}

/// An uplink that a child offers.
#[derive(Debug, Serialize)]
struct OfferStatus {
    name: String,
    weight: u32,
    /// Whether it gets requests.
    used: bool,
    /// As services show it; `none` where it is in no service.
    health: &'static str,
    /// Why it gets none.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What this gateway advertises.
pub(super) fn uplinks(state: &State, config: &Config, snapshot: &Snapshot) -> Vec<UplinkStatus> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs());
    let describe = |(name, uplink): (&String, &Uplink)| {
        let usage = state.kept.usage.of(name);
        UplinkStatus {
            name: name.clone(),
            entry_points: uplink.entry_points.clone(),
            weight: uplink.weight,
            parents: uplink.parents.clone(),
            allowed: published(snapshot, name)
                .map(|(at, proof, _)| allowed(at, proof, uplink))
                .collect(),
            used_by: used_by(&usage, now),
            requests_of_others: usage.others(),
        }
    };
    config.uplinks.iter().map(describe).collect()
}

/// Where an uplink is published, and what proves a parent there.
fn published<'s>(
    snapshot: &'s Snapshot,
    uplink: &str,
) -> impl Iterator<Item = (&'s str, Proof, &'s PublishedUplink)> {
    let entries = snapshot.entries.iter();
    entries.filter_map(move |(name, entry)| match &*entry.side {
        Side::Parents(parents) => Some((name.as_str(), parents.proof, parents.uplinks.get(uplink)?)),
        Side::Clients(_) => None,
    })
}

fn allowed(at: &str, proof: Proof, uplink: &Uplink) -> String {
    match proof {
        Proof::Certificate if uplink.parents.is_empty() => format!("{at}: any verified client certificate"),
        Proof::Certificate => format!("{at}: verified client certificates with one of `parents`"),
        Proof::Source => format!("{at}: any source on its allowlist"),
        Proof::Nothing => format!("{at}: ANYBODY who can connect, `allow_unauthenticated` is set"),
    }
}

fn used_by(usage: &Usage, now: u64) -> Vec<ParentStatus> {
    let parents = usage.parents().into_iter();
    let describe = parents.map(|parent| ParentStatus {
        name: parent.name,
        requests: parent.requests,
        last_request_seconds_ago: now.saturating_sub(parent.last),
    });
    describe.collect()
}

/// Whom this gateway polls.
pub(super) fn children(state: &State, snapshot: &Snapshot) -> Vec<ChildStatus> {
    let directory = state.directory.borrow();
    let children = directory.children(Instant::now()).into_iter();
    children.map(|child| describe(&child, snapshot)).collect()
}

fn describe(child: &View<'_>, snapshot: &Snapshot) -> ChildStatus {
    let offers = child.offers.iter();
    let offers: Vec<OfferStatus> = offers
        .map(|(offer, refusal)| offered(child, offer, refusal.as_ref(), snapshot))
        .collect();
    let in_services = child.offers.iter().filter(|(_, refusal)| refusal.is_none());
    let (tally, expired) = (child.tally, child.state == ChildState::Expired);
    ChildStatus {
        name: child.name.to_owned(),
        address: child.address.to_owned(),
        state: child.state.word(),
        last_answer_seconds_ago: child.answered.map(|ago| ago.as_secs()),
        last_poll_seconds_ago: child.polled.map(|ago| ago.as_secs()),
        generation: child.generation,
        etag: child.tag.map(str::to_owned),
        uplinks: in_services
            .filter(|_| !expired)
            .map(|(offer, _)| offer.name.clone())
            .collect(),
        offers,
        polls: PollCounts {
            changed: tally.changed,
            unchanged: tally.unchanged,
            failed: tally.failed,
        },
        failure: child.failure.map(str::to_owned),
    }
}

fn offered(
    child: &View<'_>,
    offer: &Advertised,
    refusal: Option<&Refusal>,
    snapshot: &Snapshot,
) -> OfferStatus {
    let name = format!("{}-{}", offer.name, child.name);
    let service = snapshot.discovered.get(&name).filter(|_| refusal.is_none());
    let member = service.and_then(|service| service.group.members().first());
    let now = Moment::now();
    let health = member.map(|member| member.standing.health(now));
    let why = match (refusal, health) {
        (Some(refusal), _) => Some(refusal.to_string()),
        (None, None) if child.state == ChildState::Expired => {
            Some("the child's last answer is older than `stale_after`".to_owned())
        }
        (None, None) => Some("it is in no service yet".to_owned()),
        (None, Some(_)) if offer.weight == 0 => Some("its weight is 0, so it gets no new clients".to_owned()),
        (None, Some(Health::Down | Health::Ejected)) => Some(
            member
                .map(|member| member.standing.complaint())
                .unwrap_or_default(),
        ),
        (None, Some(_)) => None,
    };
    OfferStatus {
        name: offer.name.clone(),
        weight: offer.weight,
        used: why.is_none(),
        health: health.map_or("none", Health::word),
        why,
    }
}
