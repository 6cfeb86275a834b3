//! How a node may read a path that we do not know.

/// The routes that change models, below `/api`.
const MANAGING: [&str; 6] = ["pull", "push", "create", "copy", "delete", "blobs"];

/// Whether somebody could read `path` as one of the routes that are for administrators: what is between here and a model may
/// decode, merge and resolve what we pass on as it came.
pub(super) fn manages(path: &str) -> bool {
    let mut plain = path.to_owned();
    // Once by each who reads it; more than a few decode nothing new.
    for _ in 0..3 {
        plain = decoded(&plain);
    }
    let plain = plain.to_ascii_lowercase();
    let mut parts = Vec::new();
    for part in plain.split(['/', '\\']) {
        let part = part.split([';', '?', '#']).next().unwrap_or_default();
        match part.trim() {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    matches!(&parts[..], ["api", route, ..] if MANAGING.contains(route))
}

fn decoded(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            out.push(byte);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_only_look_alike_are_free() {
        for path in [
            "/",
            "/api/pulls",
            "/api/ps",
            "/pull",
            "/v1/api/pull",
            "/api/%zzpull",
            "/api/pull/../ps",
        ] {
            assert!(!manages(path), "{path}");
        }
        for path in [
            "/api/pull",
            "/api/%25252e/pull/",
            "/api\\delete",
            "/api/blobs/sha256:1",
        ] {
            assert!(manages(path), "{path}");
        }
    }
}
