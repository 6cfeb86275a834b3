use crate::{Engine, NOW, Store, fixture, told};
use age::x25519;
use flate2::{Compression, write::GzEncoder};
use jarvis_store::{
    SCHEMA_VERSION,
    keep::{
        Contents, KeepError, Key, Lock, Progress, Stores, back_up, compare, examine, migrate,
        restore,
    },
};
use secrecy::SecretString;
use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

fn silent(_: Progress) {}

/// A pair of keys.
pub(crate) struct Keys {
    pub(crate) lock: Lock,
    pub(crate) key: Key,
    identity: x25519::Identity,
}

pub(crate) fn keys() -> Keys {
    let identity = x25519::Identity::generate();
    Keys {
        lock: Lock::recipients(&[identity.to_public().to_string()]).unwrap(),
        key: Key::identities(&identity.to_string()).unwrap(),
        identity,
    }
}

fn passphrase(text: &str) -> SecretString {
    SecretString::from(text.to_owned())
}

/// A database with rows, and its archive.
struct Archived {
    store: Store,
    contents: Contents,
    file: PathBuf,
    keys: Keys,
    _directory: TempDir,
}

async fn archived(engine: Engine) -> Archived {
    let mut store = Store::new(Engine::Sqlite);
    fixture::fill(&store).await;
    if let Engine::Postgres = engine {
        let there = Store::new(engine);
        migrate(&store.place(), &there.place(), None, NOW, silent)
            .await
            .unwrap();
        store = there;
    }
    let (directory, keys) = (tempfile::tempdir().unwrap(), keys());
    let file = directory.path().join("jarvis.backup");
    let contents = back_up(&Stores::one(store.place()), &file, &keys.lock, NOW, silent)
        .await
        .unwrap_or_else(|error| panic!("{}", told(&error)));
    Archived {
        store,
        contents,
        file,
        keys,
        _directory: directory,
    }
}

#[tokio::test]
async fn what_is_taken_on_one_engine_is_restored_on_the_other() {
    for (from, to) in [
        (Engine::Sqlite, Engine::Postgres),
        (Engine::Postgres, Engine::Sqlite),
        (Engine::Sqlite, Engine::Sqlite),
        (Engine::Postgres, Engine::Postgres),
    ] {
        let made = archived(from).await;
        let (file, key) = (&made.file, &made.keys.key);
        assert_eq!(examine(file, key, silent).unwrap(), made.contents);
        let target = Store::new(to);
        let stores = Stores::one(target.place());
        let restored = restore(file, key, &stores, silent)
            .await
            .unwrap_or_else(|error| panic!("{from:?} to {to:?}: {}", told(&error)));
        assert_eq!(restored, made.contents, "{from:?} to {to:?}");
        compare(file, key, &stores, silent).await.unwrap();
        compare(file, key, &Stores::one(made.store.place()), silent)
            .await
            .unwrap();
        let db = target.open().await;
        assert_eq!(db.count_users().await.unwrap(), 5);
        db.close().await;
    }
}

#[tokio::test]
async fn series_apart_are_archived_and_restored_with_the_rest() {
    let made = archived(Engine::Sqlite).await;
    let (main, series) = (Store::new(Engine::Postgres), Store::new(Engine::Sqlite));
    let apart = Stores {
        main: main.place(),
        series: Some(series.place()),
        answers: None,
    };
    restore(&made.file, &made.keys.key, &apart, silent)
        .await
        .unwrap();
    assert_eq!(main.number("SELECT COUNT(*) FROM series_answers").await, 0);
    assert_eq!(series.number("SELECT COUNT(*) FROM users").await, 0);
    let file = made.file.with_extension("again");
    let again = back_up(&apart, &file, &made.keys.lock, NOW, silent).await;
    assert_eq!(again.unwrap(), made.contents);
}

#[tokio::test]
async fn a_passphrase_opens_what_it_locked_and_no_other_does() {
    let store = Store::new(Engine::Sqlite);
    store.open().await.close().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("jarvis.backup");
    let lock = Lock::passphrase(&passphrase("open sesame\n")).unwrap();
    back_up(&Stores::one(store.place()), &file, &lock, NOW, silent)
        .await
        .unwrap();
    let right = Key::passphrase(&passphrase("open sesame")).unwrap();
    examine(&file, &right, silent).unwrap();
    let wrong = Key::passphrase(&passphrase("open sesam")).unwrap();
    let error = examine(&file, &wrong, silent).unwrap_err();
    assert!(
        matches!(
            &error,
            KeepError::WrongKey {
                passphrase: true,
                ..
            }
        ),
        "{error}"
    );
    let error = examine(&file, &keys().key, silent).unwrap_err();
    assert!(
        error.to_string().contains("locked with a passphrase"),
        "{error}"
    );
}

#[tokio::test]
async fn another_key_does_not_open_it() {
    let made = archived(Engine::Sqlite).await;
    let error = examine(&made.file, &keys().key, silent).unwrap_err();
    assert!(matches!(error, KeepError::WrongKey { .. }), "{error}");
    let key = Key::passphrase(&passphrase("guess")).unwrap();
    let error = examine(&made.file, &key, silent).unwrap_err();
    assert!(error.to_string().contains("locked with a key"), "{error}");
}

#[tokio::test]
async fn an_archive_is_for_its_owner_alone_and_never_replaces_a_file() {
    let made = archived(Engine::Sqlite).await;
    let rights = fs::metadata(&made.file).unwrap().permissions().mode();
    assert_eq!(rights & 0o777, 0o600);
    let folder = made.file.parent().unwrap();
    assert_eq!(
        fs::read_dir(folder).unwrap().count(),
        1,
        "nothing is left beside"
    );
    let before = fs::read(&made.file).unwrap();
    let stores = Stores::one(made.store.place());
    let error = back_up(&stores, &made.file, &made.keys.lock, NOW, silent)
        .await
        .unwrap_err();
    assert!(matches!(error, KeepError::Exists(_)), "{error}");
    assert_eq!(fs::read(&made.file).unwrap(), before);
    // Nothing in the clear: the plain texts of the fixture are nowhere in it.
    assert!(!before.windows(5).any(|bytes| bytes == b"users"));
}

#[tokio::test]
async fn a_backup_that_fails_leaves_nothing() {
    let store = Store::new(Engine::Sqlite);
    fixture::fill(&store).await;
    store
        .execute("ALTER TABLE series_nodes RENAME COLUMN health TO shape")
        .await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("jarvis.backup");
    let stores = Stores::one(store.place());
    let error = back_up(&stores, &file, &keys().lock, NOW, silent).await;
    assert!(matches!(error, Err(KeepError::Store { .. })), "{error:?}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    let nowhere = directory.path().join("not/there");
    let error = back_up(&stores, &nowhere, &keys().lock, NOW, silent).await;
    assert!(matches!(error, Err(KeepError::File { .. })), "{error:?}");
}

/// A restore that must fail, and leave the target as it was: absent.
async fn refused(file: &Path, key: &Key) -> KeepError {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jarvis.db");
    let options = jarvis_store::DbOptions::file(&path);
    let place = jarvis_store::keep::Place::new("the target".into(), options);
    let error = restore(file, key, &Stores::one(place), silent)
        .await
        .unwrap_err();
    assert!(!path.exists(), "{error}");
    error
}

#[tokio::test]
async fn every_damage_is_noticed_before_anything_is_changed() {
    let made = archived(Engine::Sqlite).await;
    let whole = fs::read(&made.file).unwrap();
    let file = made.file.with_extension("damaged");
    // Every byte of the header, and places all over the rest.
    let header = whole
        .windows(4)
        .position(|bytes| bytes == b"\n---")
        .unwrap()
        + 80;
    let places = (0..header).chain((header..whole.len()).step_by(whole.len() / 97));
    for place in places {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x20;
        fs::write(&file, damaged).unwrap();
        let error = refused(&file, &made.keys.key).await;
        assert!(
            matches!(
                error,
                KeepError::Damaged { .. } | KeepError::NotAnArchive(_) | KeepError::WrongKey { .. }
            ),
            "byte {place}: {error:?}"
        );
    }
    let lengths = (0..whole.len()).step_by(whole.len() / 61);
    for length in lengths.chain([whole.len() - 1]) {
        fs::write(&file, &whole[..length]).unwrap();
        let error = refused(&file, &made.keys.key).await;
        assert!(
            matches!(
                error,
                KeepError::Damaged { .. } | KeepError::NotAnArchive(_)
            ),
            "{length} bytes: {error:?}"
        );
    }
    fs::write(&file, [&whole[..], b"x"].concat()).unwrap();
    let error = refused(&file, &made.keys.key).await;
    assert!(matches!(error, KeepError::Damaged { .. }), "{error:?}");
    let error = refused(&made.file.with_extension("absent"), &made.keys.key).await;
    assert!(matches!(error, KeepError::File { .. }), "{error:?}");
}

/// The lines of an archive in the clear.
fn lines(made: &Archived) -> Vec<String> {
    let file = fs::File::open(&made.file).unwrap();
    let opened = age::Decryptor::new(file)
        .unwrap()
        .decrypt(std::iter::once(&made.keys.identity as &dyn age::Identity))
        .unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(opened)
        .read_to_string(&mut text)
        .unwrap();
    text.lines().map(str::to_owned).collect()
}

/// An archive of these lines, locked like a real one.
fn forged(made: &Archived, lines: &[String]) -> PathBuf {
    let file = made.file.with_extension("forged");
    let recipient = made.keys.identity.to_public();
    let locked =
        age::Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient))
            .unwrap()
            .wrap_output(fs::File::create(&file).unwrap())
            .unwrap();
    let mut out = GzEncoder::new(locked, Compression::fast());
    for line in lines {
        writeln!(out, "{line}").unwrap();
    }
    out.finish().unwrap().finish().unwrap();
    file
}

type Change = Box<dyn Fn(&mut Vec<String>)>;

#[tokio::test]
async fn a_lost_a_changed_and_a_doubled_row_in_an_archive_are_noticed() {
    let made = archived(Engine::Sqlite).await;
    let whole = lines(&made);
    let at = |text: &str| whole.iter().position(|line| line.contains(text)).unwrap();
    let messages = at("\"table\":\"messages\"");
    // As it is, it can be restored: what follows fails for its fault alone.
    examine(&forged(&made, &whole), &made.keys.key, silent).unwrap();
    let with = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines = whole.clone();
        change(&mut lines);
        forged(&made, &lines)
    };
    let faults: Vec<(&str, Change)> = vec![
        (
            "not those that were written",
            Box::new(move |lines| drop(lines.remove(messages + 1))),
        ),
        (
            "not those that were written",
            Box::new(move |lines| {
                lines[messages + 2] = lines[messages + 2].replace("assistant", "user");
            }),
        ),
        (
            "not those that were written",
            Box::new(move |lines| lines.insert(messages + 1, lines[messages + 1].clone())),
        ),
        (
            "does not fit",
            Box::new(move |lines| lines[messages + 1] = "[1,2,3,4,5,6]".into()),
        ),
        (
            "does not fit",
            Box::new(move |lines| lines[messages + 1] = "[\"a\"]".into()),
        ),
        (
            "a row that is none",
            Box::new(move |lines| lines[messages + 1] = "[1.5]".into()),
        ),
        (
            "a line that is none",
            Box::new(move |lines| lines[messages + 1] = "{}".into()),
        ),
        (
            "out of place",
            Box::new(move |lines| drop(lines.remove(messages - 1))),
        ),
        (
            "nobody knows",
            Box::new(move |lines| {
                lines[messages] = lines[messages].replace("\"messages\"", "\"letters\"");
            }),
        ),
        (
            "nobody knows",
            Box::new(move |lines| {
                lines[messages] = lines[messages].replace("\"content\"", "\"contents\"");
            }),
        ),
        ("no end", Box::new(|lines| drop(lines.pop()))),
        ("after its end", Box::new(|lines| lines.push("[1]".into()))),
        (
            "`series_nodes` is missing",
            Box::new(|lines| {
                let from = lines
                    .iter()
                    .position(|line| line.contains("\"table\":\"series_nodes\""));
                lines.drain(from.unwrap()..lines.len() - 1);
            }),
        ),
        (
            "does not begin like",
            Box::new(|lines| lines[0] = "{\"hello\":1}".into()),
        ),
    ];
    for (what, change) in faults {
        let error = refused(&with(&*change), &made.keys.key).await;
        assert!(
            matches!(&error, KeepError::Damaged { what: found, .. } if found.contains(what)),
            "{what}: {error}"
        );
    }
}

#[tokio::test]
async fn an_archive_of_a_newer_program_is_refused_by_name() {
    let made = archived(Engine::Sqlite).await;
    let mut lines = lines(&made);
    let head = lines[0].clone();
    for (from, to, says) in [
        (
            "\"jarvis_backup\":1".to_owned(),
            "\"jarvis_backup\":2".to_owned(),
            "format 2",
        ),
        (
            format!("\"schema\":{SCHEMA_VERSION}"),
            format!("\"schema\":{}", SCHEMA_VERSION + 7),
            "schema version",
        ),
    ] {
        assert!(head.contains(&from), "{head}");
        lines[0] = head.replace(&from, &to);
        let error = refused(&forged(&made, &lines), &made.keys.key).await;
        assert!(
            matches!(error, KeepError::NewerArchive { .. }) && error.to_string().contains(says),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_archive_of_an_earlier_schema_is_restored_into_this_one() {
    let made = archived(Engine::Sqlite).await;
    // Before there were series, and before accounts had a version of their list.
    let mut old = Vec::new();
    let mut users = Vec::new();
    let mut table = String::new();
    for line in lines(&made) {
        if let Some(rest) = line.strip_prefix("{\"table\":\"") {
            table = rest.split('"').next().unwrap().to_owned();
        }
        if table.starts_with("series") && line != "{\"end\":true}" {
            continue;
        }
        let line = match (&*table, line.as_bytes()[0]) {
            ("users", b'[') => {
                let mut row: Vec<serde_json::Value> = serde_json::from_str(&line).unwrap();
                row.pop();
                let line = serde_json::to_string(&row).unwrap();
                users.push(line.clone());
                line
            }
            ("users", _) if line.starts_with("{\"rows\"") => checksum_of(&users),
            _ => line.replace(",\"list_version\"]", "]"),
        };
        old.push(line);
    }
    old[0] = old[0].replace(&format!("\"schema\":{SCHEMA_VERSION}"), "\"schema\":1");
    let file = forged(&made, &old);
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let target = Store::new(engine);
        let stores = Stores::one(target.place());
        let contents = restore(&file, &made.keys.key, &stores, silent)
            .await
            .unwrap_or_else(|error| panic!("{}", told(&error)));
        assert_eq!(contents.schema, 1);
        assert_eq!(
            target
                .number("SELECT COUNT(*) FROM users WHERE list_version = 0")
                .await,
            5
        );
    }
}

/// The line that ends a table with these rows.
fn checksum_of(rows: &[String]) -> String {
    use sha2::{Digest as _, Sha256};
    let mut sum = [0_u8; 32];
    for row in rows {
        // The words are little-endian, the least significant first, so the whole is one number, least significant byte first.
        let mut carry = 0;
        for (byte, add) in sum.iter_mut().zip(Sha256::digest(row)) {
            let total = u16::from(*byte) + u16::from(add) + carry;
            *byte = total.to_le_bytes()[0];
            carry = total >> 8;
        }
    }
    let digits = |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16));
    let hex: String = sum.iter().rev().flat_map(digits).flatten().collect();
    format!("{{\"rows\":{},\"checksum\":\"{hex}\"}}", rows.len())
}

#[tokio::test]
async fn a_restore_goes_into_an_empty_database_or_nowhere() {
    let made = archived(Engine::Sqlite).await;
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let target = Store::new(engine);
        let stores = Stores::one(target.place());
        target.open().await.close().await;
        // One row, in the last table that anybody would look at.
        target
            .execute("INSERT INTO series_nodes VALUES (1, 'a', 'b', 1, 0, 0, 0, 0, 0)")
            .await;
        let error = restore(&made.file, &made.keys.key, &stores, silent)
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                KeepError::NotEmpty {
                    table: "series_nodes",
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(target.number("SELECT COUNT(*) FROM users").await, 0);
        target.execute("DELETE FROM series_nodes").await;
        // A trigger that changes a row on its way in: the proof fails, and nothing stays.
        target.execute(MEDDLING[engine as usize]).await;
        let error = restore(&made.file, &made.keys.key, &stores, silent)
            .await
            .unwrap_err();
        assert!(
            matches!(&error, KeepError::Differs(found) if found.table == "sessions"),
            "{error}"
        );
        assert_eq!(target.number("SELECT COUNT(*) FROM users").await, 0);
    }
}

/// For [`Engine::Sqlite`] and [`Engine::Postgres`]: each new session is revoked.
const MEDDLING: [&str; 2] = [
    "CREATE TRIGGER meddle AFTER INSERT ON sessions BEGIN UPDATE sessions SET revoked_at = 1 WHERE id = NEW.id; END",
    "CREATE FUNCTION meddle() RETURNS TRIGGER LANGUAGE plpgsql AS 'BEGIN NEW.revoked_at = 1; RETURN NEW; END';
     CREATE TRIGGER meddle BEFORE INSERT ON sessions FOR EACH ROW EXECUTE FUNCTION meddle()",
];

#[tokio::test]
async fn a_comparison_finds_what_has_changed_since() {
    let made = archived(Engine::Postgres).await;
    let stores = Stores::one(made.store.place());
    compare(&made.file, &made.keys.key, &stores, silent)
        .await
        .unwrap();
    made.store
        .execute("UPDATE messages SET content = content || '!' WHERE id = (SELECT MIN(id) FROM messages)")
        .await;
    let error = compare(&made.file, &made.keys.key, &stores, silent)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, KeepError::Differs(found) if found.table == "messages"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_one_moment_while_others_write() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let made = archived(engine).await;
        let file = made.file.with_extension("second");
        let mut written = false;
        // After the first table, a row goes into the last one and out of another.
        let contents = back_up(&Stores::one(made.store.place()), &file, &made.keys.lock, NOW, |_| {
            if !std::mem::replace(&mut written, true) {
                let now = tokio::runtime::Handle::current();
                tokio::task::block_in_place(|| {
                    now.block_on(async {
                        made.store
                            .execute("INSERT INTO series_nodes VALUES (1, 'late', 'b', 1, 0, 0, 0, 0, 0)")
                            .await;
                        made.store.execute("DELETE FROM refresh_tokens").await;
                    });
                });
            }
        })
        .await
        .unwrap();
        assert!(written);
        assert_eq!(contents.tables, made.contents.tables, "{engine:?}");
    }
}

/// Two answers in the making, one of which has ended in its file alone, and the directory of their files.
async fn with_unfinished_answers(store: &Store) -> TempDir {
    let answers = tempfile::tempdir().unwrap();
    fixture::fill(store).await;
    for (place, text) in [(0, "Il était une f\u{f6}"), (2, "une fois.")] {
        let offset = format!("SELECT id FROM generations ORDER BY id LIMIT 1 OFFSET {place}");
        store
            .execute(&format!(
                "UPDATE messages SET content = '' WHERE id = (SELECT message_id FROM generations WHERE id = ({offset}))"
            ))
            .await;
        store
            .execute(&format!(
                "UPDATE generations SET status = 'running', usage = NULL, owner = 'one that runs' WHERE id = ({offset})"
            ))
            .await;
        let id = store.text(&offset).await;
        let file = |kind: &str| answers.path().join(format!("{id}.{kind}"));
        // The last write was half done.
        let bytes = [text.as_bytes(), b"\xc3"].concat();
        fs::write(
            file("txt"),
            if place == 0 { &bytes } else { text.as_bytes() },
        )
        .unwrap();
        fs::write(file("tokens"), 7_u64.to_le_bytes()).unwrap();
        if place == 2 {
            let end = r#"{"status":"done","usage":{"prompt_tokens":5,"completion_tokens":7,"total_ms":9,"first_token_ms":1},"error":null}"#;
            fs::write(file("end"), end).unwrap();
        }
    }
    answers
}

#[tokio::test]
async fn answers_in_the_making_have_the_text_that_was_shown() {
    let store = Store::new(Engine::Sqlite);
    let answers = with_unfinished_answers(&store).await;
    let (directory, keys) = (tempfile::tempdir().unwrap(), keys());
    let file = directory.path().join("jarvis.backup");
    let stores = Stores {
        answers: Some(answers.path().to_owned()),
        ..Stores::one(store.place())
    };
    let taken = back_up(&stores, &file, &keys.lock, NOW, silent).await;
    let taken = taken.unwrap_or_else(|error| panic!("{}", told(&error)));
    // The same as the rows and the files together, and not as the rows alone.
    compare(&file, &keys.key, &stores, silent).await.unwrap();
    let rows_alone = Stores::one(store.place());
    let differs = compare(&file, &keys.key, &rows_alone, silent).await;
    assert!(matches!(differs, Err(KeepError::Differs(_))), "{differs:?}");
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let target = Store::new(engine);
        let there = Stores::one(target.place());
        let restored = restore(&file, &keys.key, &there, silent).await;
        assert_eq!(restored.unwrap(), taken);
        let unfinished = target.open().await.unfinished().await.unwrap();
        let [one] = &unfinished[..] else {
            panic!("{unfinished:?}");
        };
        let of = format!("FROM messages WHERE id = '{}'", one.message_id);
        assert_eq!(
            target.text(&format!("SELECT content {of}")).await,
            "Il était une f\u{f6}"
        );
        let tokens = format!("SELECT tokens FROM generations WHERE id = '{}'", one.id);
        assert_eq!(target.number(&tokens).await, 7);
        // What had ended is not gone on with.
        let ended = format!(
            "FROM generations g JOIN messages m ON m.id = g.message_id WHERE m.content = 'une fois.' AND g.status = 'done' AND g.finished_at = {}",
            NOW.micros()
        );
        assert_eq!(target.number(&format!("SELECT COUNT(*) {ended}")).await, 1);
        let usage = target.text(&format!("SELECT g.usage {ended}")).await;
        assert!(usage.contains("\"completion_tokens\":7"), "{usage}");
    }
}
