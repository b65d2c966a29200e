//! What the gateway does with a path that is not its own; both drivers.

use anyhow::{Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::fragments::plain;
use sallyport_tests::on_both_drivers;
use std::os::unix::net::UnixListener;
use std::time::Duration;

on_both_drivers!(
    a_file_at_the_admin_sockets_place_is_left_alone,
    a_dead_admin_socket_is_replaced,
);

fn a_file_at_the_admin_sockets_place_is_left_alone(case: &Case) -> Result<()> {
    let precious = case.dir().join("precious");
    std::fs::write(&precious, "kept")?;
    let setup = case.setup()?;
    let body = plain("");
    setup.write(&body)?;
    let file = std::fs::read_to_string(setup.file())?;
    let socket = file
        .lines()
        .find(|line| line.starts_with("socket = "))
        .unwrap_or_default()
        .to_owned();
    let setup = setup.with(&socket, &format!("socket = \"{}\"", precious.display()));
    setup.write(&body)?;
    let mut gateway = setup.spawn()?;
    let status = gateway.proc.wait(Duration::from_secs(5))?;
    ensure!(status.code() == Some(1), "{status}");
    ensure!(gateway.proc.log().contains("precious"), "{}", gateway.proc.log());
    ensure!(std::fs::read_to_string(&precious)? == "kept");
    Ok(())
}

fn a_dead_admin_socket_is_replaced(case: &Case) -> Result<()> {
    let setup = case.setup()?;
    let path = setup.file().with_file_name("admin.sock");
    drop(UnixListener::bind(&path)?);
    ensure!(path.exists());
    let gateway = setup.start(&plain(""))?;
    gateway.status().map(drop)
}
