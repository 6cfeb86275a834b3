//! Hashing for tables that are looked into many times a request.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// A table by names that nodes list or numbers that we give. What clients send is only looked up in it, never put into it:
/// so nobody can fill it with keys that collide, and its hash need not be a secret.
pub(crate) type QuickMap<K, V> = HashMap<K, V, BuildHasherDefault<Quick>>;

/// Takes eight bytes at a time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Quick(u64);

impl Hasher for Quick {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.write_u64(u64::from_le_bytes(last));
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(byte.into());
    }

    fn write_u64(&mut self, word: u64) {
        // Both halves of the product, so that every bit of the word has its say in every bit of the hash.
        let (low, high) = (self.0 ^ word).carrying_mul(0x9e37_79b9_7f4a_7c15, 0);
        self.0 = low ^ high;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::HashSet, hash::BuildHasher as _};

    #[test]
    fn names_and_numbers_are_told_apart() {
        let hash = BuildHasherDefault::<Quick>::default();
        let names = (0..5000).map(|number| format!("library/model-{number}:latest"));
        let mut seen: HashSet<u64> = names.map(|name| hash.hash_one(name)).collect();
        seen.extend((0..5000_u64).map(|number| hash.hash_one(number)));
        assert_eq!(seen.len(), 10_000);
        // Tables look at the low bits first.
        let low: HashSet<u64> = seen.iter().map(|hash| hash % 1024).collect();
        assert!(low.len() > 1000, "{}", low.len());
    }
}
