//! Named packet counters of netfilter, which rules can refer to (`-m nfacct`).

use crate::netlink::{NetlinkError, Socket, subsystem};

const NEW: u8 = 0;
const GET: u8 = 1;
const NAME: u16 = 1;
const PACKETS: u16 = 2;

/// The counters of this network namespace.
pub trait PacketCounters: Send + std::fmt::Debug {
    /// Creates a counter unless it exists. Names have at most 31 bytes.
    fn ensure(&mut self, name: &str) -> Result<(), NetlinkError>;

    /// Packets counted so far; `None` if there is no such counter.
    fn packets(&mut self, name: &str) -> Result<Option<u64>, NetlinkError>;
}

#[derive(Debug)]
pub struct KernelCounters(Socket);

impl KernelCounters {
    /// Fails where the kernel cannot count: it lacks the module `nfnetlink_acct`, or this process the right.
    pub fn open() -> Result<KernelCounters, NetlinkError> {
        let mut counters = KernelCounters(Socket::open()?);
        counters.packets("switchyard-probe")?;
        Ok(counters)
    }
}

impl PacketCounters for KernelCounters {
    fn ensure(&mut self, name: &str) -> Result<(), NetlinkError> {
        if self.packets(name)?.is_some() {
            return Ok(());
        }
        let doing = "creating a packet counter";
        match self.0.execute(doing, subsystem::ACCOUNTING, NEW, true, 0, |message| message.text(NAME, name)) {
            // Somebody else was faster.
            Err(error) if error.exists() => Ok(()),
            other => other,
        }
    }

    fn packets(&mut self, name: &str) -> Result<Option<u64>, NetlinkError> {
        let mut packets = None;
        let answer = self.0.get(
            "reading a packet counter",
            subsystem::ACCOUNTING,
            GET,
            |message| message.text(NAME, name),
            |message| packets = message.attributes().be64(PACKETS),
        );
        match answer {
            Ok(()) => Ok(packets),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
