//! One entry of `nodes.urls`: an address, or a table of it and what holds for that node.

use crate::address::host_and_port;
use schemars::{JsonSchema, Schema, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use std::fmt;

/// A model server, or with `dns+` a name of several. Its address may stand for all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(inline, transform = or_its_address_alone)]
pub struct NodeEntry {
    /// Its base address.
    pub url: String,
    /// What it is called, 1 to 255 visible ASCII characters; `host:port` if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Requests that it works on at once; `balancer.slots` if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// How much of the load it gets relative to the others, 1 if left out. With 0 it gets nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

impl NodeEntry {
    /// How the address of a name of several begins.
    const NAME: &str = "dns+";

    /// Whether every address that a name has is a node.
    pub(super) fn is_name(&self) -> bool {
        self.url.starts_with(Self::NAME)
    }

    /// `host:port`, as the balancer calls a node that has no other name; `None`: the address is none of a node. That is
    /// `http://host[:port]`, perhaps after `dns+`, with nothing behind it but perhaps one slash: what the balancer takes,
    /// checked here so that a mistake is told with its place.
    pub fn authority(&self) -> Option<String> {
        let url = self.url.strip_prefix(Self::NAME).unwrap_or(&self.url);
        let rest = url.strip_prefix("http://")?;
        let (host, port) = host_and_port(rest.strip_suffix('/').unwrap_or(rest))?;
        let port = port.unwrap_or(11434);
        Some(if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        })
    }
}

impl From<&str> for NodeEntry {
    fn from(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            ..Self::default()
        }
    }
}

impl<'de> Deserialize<'de> for NodeEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Either)
    }
}

impl Serialize for NodeEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if *self == Self::from(self.url.as_str()) {
            return serializer.serialize_str(&self.url);
        }
        Self::serialize(self, serializer)
    }
}

/// Reads both forms; a table's mistakes keep their place within it.
struct Either;

impl<'de> Visitor<'de> for Either {
    type Value = NodeEntry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address, or a table with `url`")
    }

    fn visit_str<E>(self, url: &str) -> Result<NodeEntry, E> {
        Ok(NodeEntry::from(url))
    }

    fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<NodeEntry, A::Error> {
        NodeEntry::deserialize(MapAccessDeserializer::new(table))
    }
}

fn or_its_address_alone(table: &mut Schema) {
    let alone = json_schema!({"type": "string", "description": "Its base address alone."});
    *table = json_schema!({"anyOf": [alone, table]});
}

#[cfg(test)]
mod tests {
    use super::NodeEntry;

    #[test]
    fn addresses_are_told_from_other_text() {
        for (good, authority) in [
            ("http://a", "a:11434"),
            ("http://a:11435", "a:11435"),
            ("http://10.0.0.1:80/", "10.0.0.1:80"),
            ("http://[::1]:11434", "[::1]:11434"),
            ("http://[::1]", "[::1]:11434"),
            ("dns+http://ollama:11434", "ollama:11434"),
        ] {
            let found = NodeEntry::from(good).authority();
            assert_eq!(found.as_deref(), Some(authority), "{good}");
        }
        for bad in [
            "a:11434",
            "dns+a:11434",
            "http://",
            "http://:80",
            "http://a:port",
            "http://a:99999",
            "http://a:0",
            "http://[a]",
            "http://a/api",
            "http://a b",
            "http://a\r\nX: y",
        ] {
            assert_eq!(NodeEntry::from(bad).authority(), None, "{bad}");
        }
    }

    #[test]
    fn what_is_said_of_a_node_is_written_as_it_was_read() {
        for text in [
            r#""http://a""#,
            r#"{"url":"http://a","slots":8}"#,
            r#"{"url":"http://a","name":"a","slots":8,"weight":0}"#,
        ] {
            let entry: NodeEntry = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&entry).unwrap(), text);
        }
    }
}
