//! The kernel's notices of changes to nftables, which is also what iptables-nft writes to.
//!
//! Only losses are of interest here: a rule, chain or table that is deleted. Each transaction ends with a notice that names
//! the process that made it, so a listener can tell its own changes from everybody else's.

use std::collections::BTreeSet;
use std::time::Duration;

use switchyard_plan::IpFamily;

use crate::netlink::{Message, NetlinkError, Socket, subsystem};

/// NFNLGRP_NFTABLES.
const GROUP: u32 = 7;
/// A restore of tens of thousands of rules is told in one burst.
const BUFFER: usize = 8 << 20;

const DELETE_TABLE: u8 = 2;
const DELETE_CHAIN: u8 = 5;
const DELETE_RULE: u8 = 8;
const NEW_GENERATION: u8 = 15;

const NAME_OF_TABLE: u16 = 1;
const TABLE_OF_CHAIN: u16 = 1;
const NAME_OF_CHAIN: u16 = 3;
const TABLE_OF_RULE: u16 = 1;
const CHAIN_OF_RULE: u16 = 2;
const GENERATION_PROCESS: u16 = 2;
const GENERATION_PROCESS_NAME: u16 = 3;

/// Something that was deleted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Loss {
    pub family: IpFamily,
    pub table: String,
    /// The chain that is gone or lost a rule; `None` where the whole table is gone.
    pub chain: Option<String>,
}

/// What a transaction took away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// As the host's kernel numbers it, whatever process id namespace the reader lives in.
    pub process: u32,
    pub process_name: String,
    pub losses: BTreeSet<Loss>,
}

/// What a listener heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    Lost(Transaction),
    /// Notices came faster than they were read: anything may have happened.
    Overflow,
}

/// Hears of deletions in the network namespace it was opened in.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    pending: BTreeSet<Loss>,
}

impl Listener {
    pub fn open() -> Result<Listener, NetlinkError> {
        Ok(Listener { socket: Socket::listen(GROUP, BUFFER)?, pending: BTreeSet::new() })
    }

    /// The transactions that took something away and became known within `limit`; often none.
    pub fn wait(&mut self, limit: Duration) -> Result<Vec<Notice>, NetlinkError> {
        let mut notices = Vec::new();
        let pending = &mut self.pending;
        let heard = self.socket.notices("listening for changes of nftables", limit, |message| {
            notices.extend(hear(&message, pending).map(Notice::Lost));
        });
        match heard {
            Ok(_) => Ok(notices),
            Err(NetlinkError::Overflow { .. }) => {
                self.pending.clear();
                notices.push(Notice::Overflow);
                Ok(notices)
            }
            Err(error) => Err(error),
        }
    }
}

/// Collects losses until the notice that ends their transaction.
fn hear(message: &Message<'_>, pending: &mut BTreeSet<Loss>) -> Option<Transaction> {
    let [from, operation] = message.header.kind.to_be_bytes();
    if from != subsystem::NFTABLES {
        return None;
    }
    if operation == NEW_GENERATION {
        let losses = std::mem::take(pending);
        let attributes = message.attributes();
        let process = attributes.be32(GENERATION_PROCESS).unwrap_or_default();
        let process_name = attributes.text(GENERATION_PROCESS_NAME).unwrap_or_default().to_owned();
        return (!losses.is_empty()).then_some(Transaction { process, process_name, losses });
    }
    pending.extend(loss(operation, message));
    None
}

fn loss(operation: u8, message: &Message<'_>) -> Option<Loss> {
    let attributes = message.attributes();
    let (table, chain) = match operation {
        DELETE_TABLE => (attributes.text(NAME_OF_TABLE)?, None),
        DELETE_CHAIN => (attributes.text(TABLE_OF_CHAIN)?, Some(attributes.text(NAME_OF_CHAIN)?)),
        DELETE_RULE => (attributes.text(TABLE_OF_RULE)?, Some(attributes.text(CHAIN_OF_RULE)?)),
        _ => return None,
    };
    let family = match message.family()? {
        2 => IpFamily::V4,
        10 => IpFamily::V6,
        _ => return None,
    };
    Some(Loss { family, table: table.to_owned(), chain: chain.map(str::to_owned) })
}
