//! Layering: defaults < file < environment < flags.

use crate::{
    Config, ConfigError, Problem, Secret, aliases,
    keys::{Key, Keys},
};
use figment::{
    Figment, Metadata, Profile, Provider,
    error::Kind,
    providers::{Format, Toml},
    value::{Dict, Map, Value},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

/// Values given as flags, by key.
#[derive(Clone, Debug, Default)]
pub struct Overrides(Vec<(&'static str, &'static str, Value)>);

impl Overrides {
    /// Sets `key` (`section.key`) to `value` on behalf of `flag` (as typed: `--listen`).
    /// `None` leaves the lower layers' value.
    pub fn set<T: Serialize>(&mut self, flag: &'static str, key: &'static str, value: Option<T>) {
        if let Some(value) = value.and_then(|value| Value::serialize(value).ok()) {
            self.0.push((flag, key, value));
        }
    }
}

/// Where configuration is taken from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file named by a flag; `JARVIS_CONFIG`, `./jarvis.toml` and
    /// `$XDG_CONFIG_HOME/jarvis/jarvis.toml` are tried in its absence, the latter two if they exist.
    pub file: Option<PathBuf>,
    /// The environment.
    pub environment: Vec<(OsString, OsString)>,
    /// The flags.
    pub flags: Overrides,
}

impl Sources {
    /// The process's own environment, with the file and flags of its command line.
    pub fn of_process(file: Option<PathBuf>, flags: Overrides) -> Self {
        Self {
            file,
            environment: std::env::vars_os().collect(),
            flags,
        }
    }

    fn variable(&self, name: &str) -> Option<&OsString> {
        self.environment
            .iter()
            .find_map(|(key, value)| (key == name && !value.is_empty()).then_some(value))
    }

    /// A directory of the XDG base directory specification: `variable` if absolute, else `fallback` under home.
    fn xdg(&self, variable: &str, fallback: &str) -> Option<PathBuf> {
        let own = self
            .variable(variable)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute());
        let home = || {
            self.variable("HOME")
                .map(|home| Path::new(home).join(fallback))
        };
        own.or_else(home)
    }

    /// The file to read, and whether it must exist.
    fn file(&self) -> Option<(PathBuf, bool)> {
        if let Some(path) = &self.file {
            return Some((path.clone(), true));
        }
        if let Some(path) = self.variable("JARVIS_CONFIG") {
            return Some((PathBuf::from(path), true));
        }
        let user = self
            .xdg("XDG_CONFIG_HOME", ".config")
            .map(|base| base.join("jarvis/jarvis.toml"));
        [Some(PathBuf::from("jarvis.toml")), user]
            .into_iter()
            .flatten()
            .find(|path| path.exists())
            .map(|path| (path, false))
    }

    /// Reads, merges and checks everything.
    ///
    /// # Errors
    /// Everything that is wrong, in all layers, at once.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let mut loader = Loader::new();
        let file = loader.add_file(self.file());
        loader.add_environment(&self.environment);
        loader.add_flags(&self.flags);
        let mut config = loader.extract();
        loader.read_secret_files(&mut config);
        loader.problems.extend(config.validate());
        let data_dir = config
            .data
            .dir
            .clone()
            .or_else(|| Some(self.xdg("XDG_DATA_HOME", ".local/share")?.join("jarvis")));
        let Some(data_dir) = data_dir else {
            loader.problems.push(Problem::new(
                "data.dir",
                "is not set, and neither XDG_DATA_HOME nor HOME says where your data belongs; set it",
            ));
            return Err(loader.into_error());
        };
        if !loader.problems.is_empty() {
            return Err(loader.into_error());
        }
        Ok(Loaded {
            origins: loader.origins(),
            config,
            data_dir,
            file,
        })
    }
}

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// The data directory, resolved.
    pub data_dir: PathBuf,
    /// The file read, if there was one.
    pub file: Option<PathBuf>,
    /// For each key that is not at its default, who set it.
    pub(crate) origins: BTreeMap<String, String>,
}

/// One key set by one variable or flag.
struct Layer<'a> {
    name: String,
    key: &'a str,
    value: Value,
}

impl Provider for Layer<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let (section, key) = self.key.split_once('.').unwrap_or((self.key, ""));
        let inner = Dict::from([(key.to_owned(), self.value.clone())]);
        let whole = Dict::from([(section.to_owned(), Value::from(inner))]);
        Ok(Profile::Default.collect(whole))
    }
}

struct Loader {
    keys: Keys,
    figment: Figment,
    problems: Vec<Problem>,
}

impl Loader {
    fn new() -> Self {
        Self {
            keys: Keys::new(),
            figment: Figment::new(),
            problems: Vec::new(),
        }
    }

    fn add_file(&mut self, file: Option<(PathBuf, bool)>) -> Option<PathBuf> {
        let (path, required) = file?;
        let place = path.display().to_string();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound && !required => return None,
            Err(error) => {
                let text = format!("cannot be read ({error})");
                self.problems.push(Problem::new(place, text));
                return None;
            }
        };
        match Toml::from_str::<Dict>(&text) {
            Ok(dict) => {
                let known = self.only_known(&place, dict);
                let metadata = Metadata::named(place);
                self.figment = std::mem::take(&mut self.figment).merge(FileLayer(metadata, known));
            }
            Err(error) => {
                let text = format!("is not valid TOML: {}", error.to_string().trim());
                self.problems.push(Problem::new(place, text));
            }
        }
        Some(path)
    }

    /// Reports and removes what is not a key.
    fn only_known(&mut self, place: &str, dict: Dict) -> Dict {
        let mut known = Dict::new();
        for (section, value) in dict {
            match value {
                Value::Dict(tag, inner) if self.keys.is_section(&section) => {
                    let inner = inner
                        .into_iter()
                        .filter(|(key, _)| self.check_key(place, &format!("{section}.{key}")))
                        .collect();
                    known.insert(section, Value::Dict(tag, inner));
                }
                Value::Dict(..) => {
                    let nearest = self.keys.nearest_section(&section).unwrap_or_default();
                    let text =
                        format!("unknown section `[{section}]`; did you mean `[{nearest}]`?");
                    self.problems.push(Problem::new(place, text));
                }
                _ if self.keys.is_section(&section) => {
                    let text =
                        format!("`{section}` is a section; write `[{section}]` and its keys below");
                    self.problems.push(Problem::new(place, text));
                }
                _ => {
                    self.check_key(place, &section);
                }
            }
        }
        known
    }

    fn check_key(&mut self, place: &str, path: &str) -> bool {
        if self.keys.get(path).is_some() {
            return true;
        }
        let nearest = self.keys.nearest(path).map_or("", |key| &key.path);
        let text = format!("unknown key `{path}`; did you mean `{nearest}`?");
        self.problems.push(Problem::new(place, text));
        false
    }

    fn add_environment(&mut self, environment: &[(OsString, OsString)]) {
        let mut ours: Vec<(&str, &OsString)> = environment
            .iter()
            .filter_map(|(name, value)| Some((name.to_str()?, value)))
            .filter(|(name, _)| name.starts_with("JARVIS_") || aliases::key_of(name).is_some())
            .collect();
        // The guide's names first, so that a key's own name wins over them.
        ours.sort_by_key(|(name, _)| (aliases::key_of(name).is_none(), *name));
        for (name, value) in ours {
            match self.variable(name, value) {
                Ok(Some((key, value))) => {
                    let name = format!("environment variable {name}");
                    let key = key.path;
                    self.figment = std::mem::take(&mut self.figment).merge(Layer {
                        name,
                        key: &key,
                        value,
                    });
                }
                Ok(None) => {}
                Err(text) => {
                    let place = format!("environment variable {name}");
                    self.problems.push(Problem::new(place, text));
                }
            }
        }
    }

    /// The key and value that a variable means; `None` if it is not configuration.
    fn variable(&self, name: &str, value: &OsString) -> Result<Option<(Key, Value)>, String> {
        let key = aliases::key_of(name)
            .and_then(|path| self.keys.get(path))
            .or_else(|| self.keys.by_variable(name));
        let Some(key) = key else {
            if aliases::is_ignored(name) {
                return Ok(None);
            }
            let nearest = self.keys.nearest_variable(name).unwrap_or_default();
            return Err(format!("sets nothing; did you mean {nearest}?"));
        };
        let text = value
            .to_str()
            .ok_or_else(|| "is not valid UTF-8".to_owned())?;
        key.parse(text).map(|value| Some((key.clone(), value)))
    }

    fn add_flags(&mut self, flags: &Overrides) {
        for (flag, key, value) in &flags.0 {
            self.figment = std::mem::take(&mut self.figment).merge(Layer {
                name: format!("flag {flag}"),
                key,
                value: value.clone(),
            });
        }
    }

    fn extract(&mut self) -> Config {
        Config {
            server: self.section("server"),
            data: self.section("data"),
            log: self.section("log"),
            auth: self.section("auth"),
            chat: self.section("chat"),
            engine: self.section("engine"),
            nodes: self.section("nodes"),
            balancer: self.section("balancer"),
            store: self.section("store"),
            redis: self.section("redis"),
            series: self.section("series"),
            limits: self.section("limits"),
        }
    }

    /// A section; a value of the wrong kind is reported and left out, so that the next one is
    /// found too.
    fn section<T: DeserializeOwned + Default>(&mut self, name: &str) -> T {
        let Ok(Value::Dict(tag, mut dict)) = self.figment.find_value(name) else {
            return T::default();
        };
        loop {
            let error = match Value::Dict(tag, dict.clone()).deserialize::<T>() {
                Ok(section) => return section,
                Err(error) => error,
            };
            let wrong = error.path.first().cloned().unwrap_or_default();
            let key = format!("{name}.{wrong}");
            let place = self.origin(&key).unwrap_or_else(|| key.clone());
            let text = format!("{}: {}", spot(name, &error.path), mistake(&error.kind));
            self.problems.push(Problem::new(place, text));
            if dict.remove(&wrong).is_none() {
                return T::default();
            }
        }
    }

    fn origin(&self, key: &str) -> Option<String> {
        self.figment
            .find_metadata(key)
            .map(|metadata| metadata.name.to_string())
    }

    fn origins(&self) -> BTreeMap<String, String> {
        self.keys
            .iter()
            .filter_map(|key| Some((key.path.clone(), self.origin(&key.path)?)))
            .collect()
    }

    fn read_secret_files(&mut self, config: &mut Config) {
        let auth = &mut config.auth;
        self.read_secret("auth.secret", &mut auth.secret, auth.secret_file.as_deref());
        let file = auth.setup_token_file.as_deref();
        self.read_secret("auth.setup_token", &mut auth.setup_token, file);
        let balancer = &mut config.balancer;
        let file = balancer.admin_key_file.as_deref();
        self.read_secret("balancer.admin_key", &mut balancer.admin_key, file);
        let file = balancer.internal_secret_file.as_deref();
        let secret = &mut balancer.internal_secret;
        self.read_secret("balancer.internal_secret", secret, file);
        let store = &mut config.store;
        let file = store.password_file.as_deref();
        self.read_secret("store.password", &mut store.password, file);
        let redis = &mut config.redis;
        let file = redis.password_file.as_deref();
        self.read_secret("redis.password", &mut redis.password, file);
        let series = &mut config.series;
        let file = series.password_file.as_deref();
        self.read_secret("series.password", &mut series.password, file);
    }

    fn read_secret(&mut self, key: &str, secret: &mut Option<Secret>, file: Option<&Path>) {
        let Some(file) = file else { return };
        let place = format!("{key}_file");
        if secret.is_some() {
            let text = format!("is set beside `{key}`; keep one of the two");
            self.problems.push(Problem::new(place, text));
            return;
        }
        match fs::read_to_string(file) {
            Ok(text) => *secret = Some(Secret::new(text.trim_end().to_owned())),
            Err(error) => {
                let text = format!("{} cannot be read ({error})", file.display());
                self.problems.push(Problem::new(place, text));
            }
        }
    }

    fn into_error(self) -> ConfigError {
        ConfigError {
            problems: self.problems,
        }
    }
}

/// Where within a section a value stands, in words: "`nodes.urls`, entry 2, `weight`".
fn spot(section: &str, path: &[String]) -> String {
    let mut parts = path.iter();
    let key = parts.next().map_or("", String::as_str);
    parts.fold(format!("`{section}.{key}`"), |said, part| {
        match part.parse::<usize>() {
            Ok(index) => format!("{said}, entry {}", index + 1),
            Err(_) => format!("{said}, `{part}`"),
        }
    })
}

/// What is wrong with a value.
fn mistake(kind: &Kind) -> String {
    let Kind::UnknownField(given, known) = kind else {
        return kind.to_string();
    };
    let likeness = |key: &&&str| strsim::damerau_levenshtein(key, given);
    let nearest = known.iter().min_by_key(likeness).unwrap_or(&"");
    format!("unknown key; did you mean `{nearest}`?")
}

struct FileLayer(Metadata, Dict);

impl Provider for FileLayer {
    fn metadata(&self) -> Metadata {
        self.0.clone()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.1.clone()))
    }
}
