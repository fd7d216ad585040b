//! Free loopback ports.
//!
//! Invariant: a port is free when it is handed out, and nothing more is promised: another process may take it before the
//! server binds, so whoever starts a server tries again with another port when the address is in use.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result};

/// A port on 127.0.0.1 that nothing listens on now.
pub fn free() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}

/// Whether a server's log says that another process took its port first. The wordings of Go and Rust.
pub(crate) fn was_taken(log: &str) -> bool {
    log.to_lowercase().contains("address already in use")
}
