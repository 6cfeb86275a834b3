//! Filling in the configuration templates of `deploy/`, as `envsubst` does there.

use std::{fs::File, io::Read};

/// Puts each value in the place of `${NAME}`.
///
/// # Panics
/// With what is left if a name of the template has no value, or a value is not asked for.
pub(super) fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut text = template.to_owned();
    for (name, value) in values {
        let place = format!("${{{name}}}");
        assert!(text.contains(&place), "the template has no {place}");
        text = text.replace(&place, value);
    }
    let places = text.split("${").skip(1);
    let mut names = places.filter_map(|rest| Some(rest.split_once('}')?.0));
    if let Some(name) = names.find(|name| is_name(name)) {
        panic!("the template wants a value for {name}");
    }
    text
}

/// What `envsubst` takes for a name; comments say `${...}`.
fn is_name(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A password of 128 random bits.
pub(super) fn password() -> String {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .unwrap();
    format!("{:032x}", u128::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_put_wherever_its_name_stands() {
        assert_eq!(
            fill("${A}:${B}, again ${A}", &[("A", "1"), ("B", "2")]),
            "1:2, again 1"
        );
    }

    #[test]
    fn what_is_no_name_stays() {
        let comment = "# Replace each ${...}.\n";
        assert_eq!(fill(comment, &[]), comment);
    }

    #[test]
    #[should_panic(expected = "wants a value for PORT")]
    fn a_name_without_a_value_is_told() {
        fill("${HOST}:${PORT}", &[("HOST", "h")]);
    }
}
