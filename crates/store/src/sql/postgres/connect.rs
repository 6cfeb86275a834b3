//! One connection: opened, and looked at before anybody uses it.

use crate::{Host, PostgresOptions, StoreError};
use secrecy::ExposeSecret as _;
use sqlx::{
    ConnectOptions as _, Executor as _, PgConnection, Row as _,
    error::DatabaseError,
    postgres::{PgConnectOptions, PgSslMode},
    raw_sql,
};

/// The oldest server that has all we rely on: from this version on it notices by itself that a client has gone
/// (`client_connection_check_interval`), and ends what runs for it.
const OLDEST: u32 = 14;

/// What a connection is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Reading: the primary or a standby.
    Reader,
    /// Writing: the primary.
    Writer,
}

/// What every session begins with. No `statement_timeout`: a commit that is cancelled while it waits for a standby would be answered
/// as done without being there. A client that gives up drops its connection instead.
const SESSION: &str =
    "SET client_connection_check_interval = '1s'; SET idle_in_transaction_session_timeout = '30s'";

pub(super) fn options(host: &Host, database: &PostgresOptions) -> PgConnectOptions {
    let options = PgConnectOptions::new_without_pgpass()
        .host(&host.name)
        .port(host.port)
        .username(&database.user)
        .database(&database.database)
        .application_name("jarvis")
        .ssl_mode(PgSslMode::Disable)
        .disable_statement_logging();
    match &database.password {
        Some(password) => options.password(password.expose_secret()),
        None => options,
    }
}

/// Opens a connection for `role`; also says whether it can write. `settings` is what an operator sets to reach the server.
pub(super) async fn connect(
    options: &PgConnectOptions,
    host: &Host,
    settings: &'static str,
    role: Role,
) -> Result<(PgConnection, bool), StoreError> {
    let refused = |error| refused(error, options, host, settings);
    let mut connection = options.connect().await.map_err(refused)?;
    require_version(connection.server_version_num(), host)?;
    raw_sql(SESSION)
        .execute(&mut connection)
        .await
        .map_err(refused)?;
    let writes = !in_recovery(&mut connection).await?;
    if role == Role::Writer && !writes {
        return Err(StoreError::NotPrimary { host: host.clone() });
    }
    Ok((connection, writes))
}

/// Asks a connection that was opened to a standby whether its server has become the primary.
pub(super) async fn check_writer(
    connection: &mut PgConnection,
    host: &Host,
) -> Result<(), StoreError> {
    if in_recovery(connection).await? {
        return Err(StoreError::NotPrimary { host: host.clone() });
    }
    Ok(())
}

async fn in_recovery(connection: &mut PgConnection) -> Result<bool, StoreError> {
    let row = connection
        .fetch_one(raw_sql("SELECT pg_is_in_recovery()"))
        .await?;
    Ok(row.try_get(0)?)
}

/// `number` as the server tells it: 150018 is 15.18.
fn require_version(number: Option<u32>, host: &Host) -> Result<(), StoreError> {
    match number.map(|number| number / 10_000) {
        Some(found) if found < OLDEST => Err(StoreError::TooOld {
            host: host.clone(),
            found,
            oldest: OLDEST,
        }),
        _ => Ok(()),
    }
}

/// Why a server let us not in, without the secret it was told.
fn refused(
    error: sqlx::Error,
    options: &PgConnectOptions,
    host: &Host,
    settings: &'static str,
) -> StoreError {
    let code = error.as_database_error().and_then(DatabaseError::code);
    match code.as_deref() {
        // invalid_authorization_specification, invalid_password
        Some("28000" | "28P01") => StoreError::SignIn {
            host: host.clone(),
            user: options.get_username().to_owned(),
            settings,
            source: error.into(),
        },
        // invalid_catalog_name
        Some("3D000") => StoreError::NoDatabase {
            host: host.clone(),
            database: options.get_database().unwrap_or_default().to_owned(),
        },
        Some(_) => error.into(),
        None => StoreError::Unreachable {
            host: host.clone(),
            source: error.into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_too_old_is_named_with_both_versions() {
        let host = Host {
            name: "db".into(),
            port: 5432,
        };
        let error = require_version(Some(130_011), &host).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("db:5432") && text.contains("13") && text.contains("14"),
            "{text}"
        );
        require_version(Some(140_000), &host).unwrap();
        require_version(None, &host).unwrap();
    }
}
