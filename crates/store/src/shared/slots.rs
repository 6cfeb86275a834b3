//! Which master of the cluster holds a key.

use redis::Value;
use std::sync::Arc;

/// How many slots a Redis Cluster has.
const SLOTS: u16 = 16_384;

/// Slots in a row and the master that holds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u16,
    pub(super) last: u16,
    /// `host:port`.
    pub(super) address: Arc<str>,
}

/// The slots as one node of the cluster last described them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SlotMap(Vec<Range>);

impl SlotMap {
    /// Reads the answer to `CLUSTER SLOTS`; `None` for anything else. A node that does not know its own address leaves it
    /// empty: it is then the one that was asked.
    pub(super) fn read(answer: &Value, asked: &str) -> Option<Self> {
        let Value::Array(ranges) = answer else {
            return None;
        };
        let ranges = ranges.iter().map(|range| {
            let Value::Array(fields) = range else {
                return None;
            };
            let [
                Value::Int(first),
                Value::Int(last),
                Value::Array(master),
                ..,
            ] = &fields[..]
            else {
                return None;
            };
            let [host, Value::Int(port), ..] = &master[..] else {
                return None;
            };
            let host = match host {
                Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?,
                Value::SimpleString(text) => text,
                Value::Nil => "",
                _ => return None,
            };
            let host = match host {
                "" | "?" => asked.rsplit_once(':')?.0,
                host => host,
            };
            Some(Range {
                first: u16::try_from(*first).ok()?,
                last: u16::try_from(*last).ok()?,
                address: address(host, *port),
            })
        });
        ranges.collect::<Option<_>>().map(Self)
    }

    /// The master of a slot.
    pub(super) fn master(&self, slot: u16) -> Option<&Arc<str>> {
        let range = self
            .0
            .iter()
            .find(|range| (range.first..=range.last).contains(&slot));
        range.map(|range| &range.address)
    }

    /// Every master that holds slots.
    pub(super) fn masters(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter().map(|range| &range.address)
    }

    /// Whether every slot has a master.
    pub(super) fn is_whole(&self) -> bool {
        let held = self
            .0
            .iter()
            .map(|range| u32::from(range.last - range.first) + 1);
        held.sum::<u32>() == u32::from(SLOTS)
    }
}

fn address(host: &str, port: i64) -> Arc<str> {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}").into()
    } else {
        format!("{host}:{port}").into()
    }
}

/// The slot of a key: of what stands in its first braces, if anything does, so that keys can be kept together.
pub(super) fn slot_of(key: &str) -> u16 {
    let tag = key
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'))
        .map(|(tag, _)| tag)
        .filter(|tag| !tag.is_empty());
    crc16(tag.unwrap_or(key).as_bytes()) % SLOTS
}

/// CRC-16/XMODEM, as the cluster's specification asks for.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            let carry = crc & 0x8000 != 0;
            (crc << 1) ^ if carry { 0x1021 } else { 0 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot_of("foo"), 12_182);
        assert_eq!(slot_of("a:{foo}:b"), slot_of("foo"));
        assert_eq!(slot_of("{}foo"), crc16(b"{}foo") % SLOTS);
        assert_eq!(slot_of("a{b"), crc16(b"a{b") % SLOTS);
    }

    #[test]
    fn an_answer_of_a_node_is_read() {
        let text = |text: &str| Value::BulkString(text.into());
        let master = |host, port| Value::Array(vec![host, Value::Int(port), text("id")]);
        let range =
            |first, last, master| Value::Array(vec![Value::Int(first), Value::Int(last), master]);
        let answer = Value::Array(vec![
            range(0, 8191, master(text("10.0.0.1"), 6379)),
            range(8192, 16383, master(text(""), 7000)),
        ]);
        let map = SlotMap::read(&answer, "redis-2:7000").unwrap();
        assert_eq!(&**map.master(8191).unwrap(), "10.0.0.1:6379");
        assert_eq!(&**map.master(8192).unwrap(), "redis-2:7000");
        assert!(map.is_whole());
        assert_eq!(SlotMap::read(&Value::Okay, "a:1"), None);
        let half = Value::Array(vec![range(0, 100, master(text("::1"), 1))]);
        let half = SlotMap::read(&half, "a:1").unwrap();
        assert!(!half.is_whole());
        assert_eq!(half.master(101), None);
        assert_eq!(&**half.master(0).unwrap(), "[::1]:1");
    }
}
