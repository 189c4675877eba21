//! Processes of this machine, as measurements need them: their memory, and a port for another one.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

/// Memory of a process that is resident, its files' pages included.
#[derive(Clone, Copy, Debug)]
pub struct Resident {
    /// Now, KiB.
    pub now_kib: u64,
    /// At most until now, KiB.
    pub peak_kib: u64,
}

/// The memory of a process, by its folder in `/proc`.
///
/// # Errors
/// There is no such process, or no `/proc`.
pub fn resident(process: &Path) -> io::Result<Resident> {
    let status = std::fs::read_to_string(process.join("status"))?;
    let field = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let told = field("VmRSS:").zip(field("VmHWM:"));
    let (now_kib, peak_kib) =
        told.ok_or_else(|| io::Error::other("its status does not tell its memory"))?;
    Ok(Resident { now_kib, peak_kib })
}

/// A port of this machine that nobody listens at now.
///
/// # Errors
/// There is none.
pub fn free_port() -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_process_is_read_where_the_system_tells_it() {
        let own = resident(Path::new("/proc/self")).ok();
        assert_eq!(own.is_some(), cfg!(target_os = "linux"));
        let plausible = |own: Resident| own.now_kib > 1 << 10 && own.peak_kib >= own.now_kib;
        assert!(own.is_none_or(plausible), "{own:?}");
        assert!(resident(Path::new("/proc/none")).is_err());
    }
}
