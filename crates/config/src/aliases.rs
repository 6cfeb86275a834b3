//! Variable names of the operator's guide that mean a key of ours.

/// The guide's name, and the key it sets. A name enters this table when what it sets exists.
const ALIASES: &[(&str, &str)] = &[
    ("API_RATE_LIMIT", "limits.user_rate"),
    ("JARVIS_SECRET_KEY", "auth.secret"),
    ("JARVIS_SECRET_KEY_FILE", "auth.secret_file"),
    ("OLLAMA_LB_STRATEGY", "balancer.strategy"),
    ("POSTGRES_PASSWORD", "store.password"),
    ("POSTGRES_PASSWORD_FILE", "store.password_file"),
];

/// Variables beginning with `JARVIS_` that are not configuration: where to find it, what
/// Kubernetes injects for a service named `jarvis`, and what developers and tests are told.
const NOT_OURS: &[&str] = &[
    "JARVIS_CONFIG",
    "JARVIS_DEV_",
    "JARVIS_PORT",
    "JARVIS_SERVICE_",
    "JARVIS_TEST_",
];

/// The key that the guide's variable `name` sets, if it is one.
pub(crate) fn key_of(name: &str) -> Option<&'static str> {
    ALIASES
        .iter()
        .find_map(|(alias, key)| (*alias == name).then_some(*key))
}

/// Whether `name` is to be passed over.
pub(crate) fn is_ignored(name: &str) -> bool {
    NOT_OURS.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Keys;

    #[test]
    fn every_alias_names_a_key_that_exists() {
        let keys = Keys::new();
        for (alias, key) in ALIASES {
            assert!(keys.get(key).is_some(), "{alias} -> {key}");
        }
    }

    #[test]
    fn no_key_is_hidden_by_the_ignored_names() {
        for key in Keys::new().iter() {
            assert!(!is_ignored(&key.variable()), "{}", key.path);
        }
    }
}
