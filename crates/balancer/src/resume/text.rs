//! Finding the text of a record: JSON is walked in place, without a tree and without recursion.

use memchr::memchr2;

/// What was walked is not JSON, or not the JSON that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// The members of an object, in order: the key without its quotes, the value as it stands. The object must be all of the text.
pub(super) fn members(json: &str) -> Members<'_> {
    Members(Walk::new(json, b'{'))
}

/// The elements of a list, in order, each as it stands. The list must be all of the text.
pub(super) fn elements(json: &str) -> Elements<'_> {
    Elements(Walk::new(json, b'['))
}

/// Whether a value says something: neither absent nor `null`, `false`, empty text, empty list or empty object.
pub(super) fn says_something(value: &str) -> bool {
    !matches!(value, "" | "null" | "false" | "\"\"" | "[]" | "{}")
}

/// The content of a JSON string (with its quotes) is added to `into`, escapes resolved.
///
/// # Errors
/// It is not a string, or half of a surrogate pair stands alone: no text has that.
pub(super) fn unescape(quoted: &str, into: &mut String) -> Result<(), Malformed> {
    let mut rest = quoted
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .ok_or(Malformed)?;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        into.push_str(&rest[..at]);
        let escape = *rest.as_bytes().get(at + 1).ok_or(Malformed)?;
        let used = if escape == b'u' {
            unicode(&rest[at..], into)?
        } else {
            into.push(simple(escape).ok_or(Malformed)?);
            2
        };
        rest = &rest[at + used..];
    }
    into.push_str(rest);
    Ok(())
}

/// The same as a new text.
pub(super) fn text_of(quoted: &str) -> Result<String, Malformed> {
    let mut text = String::new();
    unescape(quoted, &mut text)?;
    Ok(text)
}

fn simple(escape: u8) -> Option<char> {
    Some(match escape {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        _ => return None,
    })
}

/// Resolves the `\uXXXX` (or the pair of them) that `text` begins with; gives how many bytes it took.
fn unicode(text: &str, into: &mut String) -> Result<usize, Malformed> {
    let first = unit(text)?;
    let (code, used) = match first {
        0xD800..=0xDBFF => {
            let low = unit(text.get(6..).ok_or(Malformed)?)?;
            if !(0xDC00..=0xDFFF).contains(&low) {
                return Err(Malformed);
            }
            (0x1_0000 + ((first - 0xD800) << 10) + (low - 0xDC00), 12)
        }
        _ => (first, 6),
    };
    into.push(char::from_u32(code).ok_or(Malformed)?);
    Ok(used)
}

fn unit(text: &str) -> Result<u32, Malformed> {
    let digits = text
        .strip_prefix("\\u")
        .and_then(|rest| rest.get(..4))
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .ok_or(Malformed)?;
    u32::from_str_radix(digits, 16).map_err(|_| Malformed)
}

/// See [`members`].
pub(super) struct Members<'a>(Walk<'a>);

impl<'a> Iterator for Members<'a> {
    type Item = Result<(&'a str, &'a str), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let walk = &mut self.0;
        walk.step(|walk| {
            let key = walk.string()?;
            walk.space();
            walk.expect(b':')?;
            walk.space();
            Ok((&key[1..key.len() - 1], walk.value()?))
        })
    }
}

/// See [`elements`].
pub(super) struct Elements<'a>(Walk<'a>);

impl<'a> Iterator for Elements<'a> {
    type Item = Result<&'a str, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.step(Walk::value)
    }
}

#[derive(PartialEq)]
enum Place {
    Before,
    Inside,
    After,
}

struct Walk<'a> {
    json: &'a str,
    at: usize,
    open: u8,
    place: Place,
}

impl<'a> Walk<'a> {
    fn new(json: &'a str, open: u8) -> Self {
        Self {
            json,
            at: 0,
            open,
            place: Place::Before,
        }
    }

    /// Goes to the next item; after the last one (or an error) there are none.
    fn step<T>(
        &mut self,
        item: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Option<Result<T, Malformed>> {
        if self.place == Place::After {
            return None;
        }
        let found = match self.separator() {
            Ok(true) => item(self),
            Ok(false) => {
                self.place = Place::After;
                return None;
            }
            Err(error) => Err(error),
        };
        if found.is_err() {
            self.place = Place::After;
        }
        Some(found)
    }

    /// Whether an item follows.
    fn separator(&mut self) -> Result<bool, Malformed> {
        let close = self.open + 2;
        self.space();
        if self.place == Place::Before {
            self.place = Place::Inside;
            self.expect(self.open)?;
            self.space();
            if self.peek() != Some(close) {
                return Ok(true);
            }
        } else if self.peek() == Some(b',') {
            self.at += 1;
            self.space();
            return Ok(true);
        }
        self.expect(close)?;
        self.space();
        if self.at == self.json.len() {
            Ok(false)
        } else {
            Err(Malformed)
        }
    }

    fn peek(&self) -> Option<u8> {
        self.json.as_bytes().get(self.at).copied()
    }

    fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.peek() != Some(byte) {
            return Err(Malformed);
        }
        self.at += 1;
        Ok(())
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// The string that begins here, with its quotes.
    fn string(&mut self) -> Result<&'a str, Malformed> {
        let start = self.at;
        self.expect(b'"')?;
        loop {
            let rest = self.json.as_bytes().get(self.at..).ok_or(Malformed)?;
            let found = memchr2(b'"', b'\\', rest).ok_or(Malformed)?;
            if rest[found] == b'"' {
                self.at += found + 1;
                return self.json.get(start..self.at).ok_or(Malformed);
            }
            self.at += found + 2;
        }
    }

    fn value(&mut self) -> Result<&'a str, Malformed> {
        let start = self.at;
        match self.peek().ok_or(Malformed)? {
            b'"' => return self.string(),
            b'{' | b'[' => self.skip_nested()?,
            _ => self.skip_literal()?,
        }
        self.json.get(start..self.at).ok_or(Malformed)
    }

    /// Skips an object or a list with all that is in it. Deeper than 128 is refused, as everywhere.
    fn skip_nested(&mut self) -> Result<(), Malformed> {
        let (mut kinds, mut depth) = (0_u128, 0_u32);
        loop {
            match self.peek().ok_or(Malformed)? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                open @ (b'{' | b'[') => {
                    depth += 1;
                    if depth > u128::BITS {
                        return Err(Malformed);
                    }
                    kinds = (kinds << 1) | u128::from(open == b'{');
                }
                close @ (b'}' | b']') => {
                    if (kinds & 1 == 1) != (close == b'}') {
                        return Err(Malformed);
                    }
                    kinds >>= 1;
                    depth -= 1;
                }
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
        }
    }

    fn skip_literal(&mut self) -> Result<(), Malformed> {
        let rest = &self.json.as_bytes()[self.at..];
        let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n');
        let length = rest.iter().position(ends).unwrap_or(rest.len());
        let literal = &rest[..length];
        let number = |bytes: &[u8]| {
            matches!(bytes.first(), Some(b'-' | b'0'..=b'9'))
                && bytes
                    .iter()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
        };
        if !matches!(literal, b"true" | b"false" | b"null") && !number(literal) {
            return Err(Malformed);
        }
        self.at += length;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn walked(json: &str) -> Result<Vec<(String, String)>, Malformed> {
        members(json)
            .map(|member| member.map(|(key, value)| (key.to_owned(), value.to_owned())))
            .collect()
    }

    #[test]
    fn members_stand_as_they_are() {
        let json = r#" { "a" : "x\"}" , "b":{"c":[1,{"d":"]"}]},"e":-1.5e3,"f":null } "#;
        let found = walked(json).unwrap();
        let pairs: Vec<_> = found
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            pairs,
            [
                ("a", r#""x\"}""#),
                ("b", r#"{"c":[1,{"d":"]"}]}"#),
                ("e", "-1.5e3"),
                ("f", "null")
            ]
        );
        assert_eq!(walked("{}").unwrap(), []);
        assert_eq!(elements("[]").count(), 0);
    }

    #[test]
    fn what_is_not_an_object_is_refused() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200));
        for bad in [
            "",
            "{",
            "[]",
            "{\"a\"}",
            "{\"a\":1,}",
            "{\"a\":1}{",
            "{\"a\":nul}",
            "{\"a\":\"x}",
            "{\"a\":\"x\\",
            "{\"a\":[}",
            "{\"a\":[{]}}",
            "{\"a\":1 2}",
            "{a:1}",
            &deep,
        ] {
            assert!(walked(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn half_a_surrogate_pair_is_no_text() {
        for bad in [
            r#""\ud83d""#,
            r#""\ud83dx""#,
            r#""\ud83d\u0041""#,
            r#""\ude00""#,
            r#""\u12""#,
            r#""\x""#,
            "x",
        ] {
            assert!(text_of(bad).is_err(), "{bad}");
        }
        assert_eq!(
            text_of(r#""a\ud83d\ude00\u003c\n\/é""#).unwrap(),
            "a😀<\n/é"
        );
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::btree_map(any::<String>(), inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn walking_finds_what_a_parser_finds(map in proptest::collection::btree_map(any::<String>(), json(), 0..6), pretty: bool) {
            let value = Value::Object(map.into_iter().collect());
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let mut found = std::collections::BTreeMap::new();
            for member in members(&text) {
                let (key, value) = member.unwrap();
                let key = text_of(&format!("\"{key}\"")).unwrap();
                found.insert(key, serde_json::from_str::<Value>(value).unwrap());
            }
            prop_assert_eq!(serde_json::to_value(found).unwrap(), serde_json::from_str::<Value>(&text).unwrap());
        }

        #[test]
        fn nothing_makes_it_panic(text in ".{0,60}", bytes in "[\\[\\]{}\",:\\\\u0-9a ]{0,40}") {
            for json in [&text, &bytes] {
                for item in members(json) { let _ = item; }
                for item in elements(json) { let _ = item; }
                let _ = text_of(json);
            }
        }

        #[test]
        fn unescaping_is_exact(text: String) {
            let plain = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(text_of(&plain).unwrap(), text.as_str());
            let units = text.encode_utf16().fold(String::new(), |all, unit| all + &format!("\\u{unit:04x}"));
            prop_assert_eq!(text_of(&format!("\"{units}\"")).unwrap(), text.as_str());
        }
    }
}
