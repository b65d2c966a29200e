//! Whether live sessions would still get in: judged again when what they were let in by changed, and once a minute,
//! because certificates and revocation lists run out by themselves.
//!
//! A session is judged as a handshake of now would be. One that would not get in is closed at once, whatever it is
//! doing. Sessions that agree in all that is judged are judged together, and the worker serves others in between.

use super::{Order, context::Context, live::Handle};
use crate::{
    io::{self, Instant},
    telemetry::Count,
    tls::{ClientChain, EntryPolicies, Facts, Judged, PolicyId, TlsReason, judge_again},
};
use rustls::pki_types::UnixTime;
use std::{
    cell::Cell,
    collections::HashMap,
    future::poll_fn,
    hash::{Hash, Hasher},
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};
use tokio::sync::Notify;

/// How often sessions are judged although nothing was changed.
const EVERY: Duration = Duration::from_secs(60);
/// Judgements between which others are served; one is up to half a millisecond.
const AT_ONCE: usize = 4;

/// Asks for a judgement.
#[derive(Debug, Default)]
pub struct Recheck {
    wanted: Notify,
}

impl Recheck {
    /// Has the sessions judged by the snapshot of now; several requests at once are one.
    pub fn ask(&self) {
        self.wanted.notify_one();
    }

    /// Judges for as long as the worker lives.
    pub async fn run(context: Rc<Context>) {
        let mut next = Instant::now() + EVERY;
        loop {
            let which = tokio::select! {
                () = context.recheck.wanted.notified() => Which::Changed,
                () = io::sleep_until(next) => Which::Proven,
            };
            // Changes that come often must not put it off.
            if which == Which::Proven {
                next = Instant::now() + EVERY;
            }
            pass(&context, which).await;
        }
    }
}

/// Which sessions are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    /// Those whose policy is another now.
    Changed,
    /// Those also that showed a certificate.
    Proven,
}

async fn pass(context: &Context, which: Which) {
    let mut known: HashMap<Case, Judged> = HashMap::new();
    let judgements = Cell::new(0usize);
    for handle in context.live.all() {
        let Some(facts) = handle.tls() else { continue };
        let judged = with_policies(context, &handle, |policies| {
            let policy = policies.of(facts.sni.as_deref()).id;
            let due = which == Which::Proven && facts.shown.is_some();
            if policy == facts.policy.get() && !due {
                return Judged::Keep;
            }
            let case = Case::new(policy, &facts);
            let judged = *known.entry(case).or_insert_with(|| {
                judgements.set(judgements.get() + 1);
                judge_again(policies, &facts, UnixTime::now())
            });
            if judged == Judged::Keep {
                facts.policy.set(policy);
            }
            judged
        });
        if let Judged::Close(reason) = judged {
            end(context, &handle, &facts, reason);
        }
        if judgements.get() >= AT_ONCE {
            judgements.set(0);
            let_others_run().await;
        }
    }
}

/// Whether a session that has just begun would still get in: its policy may have been replaced during the handshake,
/// before there was a session to be judged. Ends it where it would not; from here on it is judged like the others.
pub(super) fn still_stands(context: &Context, handle: &Handle, facts: &Rc<Facts>) -> bool {
    handle.secured(Rc::clone(facts));
    let judged = with_policies(context, handle, |policies| {
        if policies.of(facts.sni.as_deref()).id == facts.policy.get() {
            return Judged::Keep;
        }
        judge_again(policies, facts, UnixTime::now())
    });
    match judged {
        Judged::Keep => true,
        Judged::Close(reason) => {
            end(context, handle, facts, reason);
            false
        }
    }
}

/// By the policies of the entry point, or of the TCP router that took the connection. Where these are gone, or shake no
/// hands any more, it is not for this to judge.
fn with_policies(context: &Context, handle: &Handle, judge: impl FnOnce(&EntryPolicies) -> Judged) -> Judged {
    let view = context.view();
    let entry = view.snapshot.entries.get(&handle.entry);
    let policies = match handle.tcp.get() {
        None => entry.and_then(|entry| entry.tls.as_ref()),
        Some(taken) => entry
            .and_then(|entry| entry.tcp.as_ref())
            .and_then(|tcp| tcp.policies(&taken.router)),
    };
    policies.map_or(Judged::Keep, |policies| judge(policies))
}

fn end(context: &Context, handle: &Handle, facts: &Facts, reason: TlsReason) {
    if !handle.tell(Order::Close) {
        return;
    }
    context.counters.add(Count::TlsSessionEnded);
    context.tally.ended(reason);
    context.handshakes.ended(handle, facts, reason);
}

/// All that a judgement depends on but the clock.
#[derive(PartialEq, Eq, Hash)]
struct Case {
    policy: PolicyId,
    agreed: [Option<&'static str>; 4],
    shown: Option<Shown>,
}

/// A client's chain, by its contents.
struct Shown(Arc<ClientChain>);

impl Case {
    fn new(policy: PolicyId, facts: &Facts) -> Self {
        Self {
            policy,
            agreed: [Some(facts.version), Some(facts.suite), facts.group, facts.alpn],
            shown: facts.shown.clone().map(Shown),
        }
    }
}

impl PartialEq for Shown {
    fn eq(&self, other: &Self) -> bool {
        self.0.standing == other.0.standing && self.0.certificates == other.0.certificates
    }
}

impl Eq for Shown {}

impl Hash for Shown {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for certificate in &self.0.certificates {
            certificate.as_ref().hash(state);
        }
    }
}

/// Gives way once to whatever else this worker has to do.
async fn let_others_run() {
    let mut gave_way = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut gave_way, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
