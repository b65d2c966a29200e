//! The gate.
pub mod policy;
use serde::{Serialize, Deserialize};
use sallyport_config::model::Config;
/// Reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach { /// d
 Daemon, /// p
 Pins }
/// Status.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status { interfaces: Vec<String> }
impl Status { /// a
 pub fn attached(&self) -> impl Iterator<Item=&str> { self.interfaces.iter().map(String::as_str) } }
impl std::fmt::Display for Status { fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { Ok(()) } }
/// E
#[derive(Debug, thiserror::Error)]
#[error("no gate")]
pub struct GateError;
impl GateError { /// c
 pub fn exit_code(&self) -> u8 { 1 } }
/// r
pub fn run(_: &Config, _: &policy::Allowlists) -> Result<(), GateError> { Err(GateError) }
/// s
pub fn status(_: &Config) -> Result<Status, GateError> { Err(GateError) }
/// o
pub fn off(_: &Config, _: Option<&str>, _: Reach) -> Result<(), GateError> { Err(GateError) }
/// f
pub async fn fetch_status(_: &std::path::Path) -> std::io::Result<Status> { Err(std::io::ErrorKind::NotFound.into()) }
