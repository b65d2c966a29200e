//! Passes there and back over all proxies, which take the drift of the machine out of the ratios.

use super::report::{Figure, Measurement, Report};
use super::subjects::Proxy;
use anyhow::Result;

/// Measures the CPU of `count` units of load, per unit and in microseconds, on each proxy: a warm-up of a tenth, then
/// `rounds` passes there and back.
///
/// # Errors
/// Where the load fails.
pub fn cpu(
    running: &[Proxy],
    figure: Figure,
    rounds: u32,
    count: u32,
    report: &mut Report,
    mut load: impl FnMut(&Proxy, u32) -> Result<()>,
) -> Result<()> {
    for proxy in running {
        load(proxy, (count / 10).max(100))?;
    }
    for round in 0..rounds {
        eprintln!("bench: {} round {} of {rounds}", figure.name, round + 1);
        for proxy in running.iter().chain(running.iter().rev()) {
            let before = proxy.cpu_ns()?;
            load(proxy, count)?;
            let spent = proxy.cpu_ns()?.saturating_sub(before);
            report.add(Measurement {
                figure,
                subject: proxy.subject,
                value: spent as f64 / 1000.0 / f64::from(count),
            });
        }
    }
    Ok(())
}
