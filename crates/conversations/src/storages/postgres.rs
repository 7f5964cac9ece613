//! `storage.postgres`: a row for each vCon, its whole in the JSONB column `vcon_json`.
//!
//! The table is the one that the Conserver makes, its GIN index included, so that what reads there goes on reading.
//! sqlx is the client: the house's own Store already brings it in, with its pool and TLS, and this is a customer's
//! database, not ours.

use std::borrow::Cow;
use std::time::Duration;

use async_trait::async_trait;
use base::Secret;
use serde::Deserialize;
use serde_json::Value;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};
use sqlx::{AssertSqlSafe, Row as _};
use tokio::sync::OnceCell;

use super::http::cleaned;
use crate::environment::Environment;
use crate::options::{self, OptionsError};
use crate::storage::{Storage, StorageContext, StorageError};
use crate::vcon::{Vcon, is_uuid};

pub(super) const MODULE: &str = "storage.postgres";
pub(super) const OPTIONS: &[&str] =
    &["database", "user", "password", "host", "port", "table_name", "sslmode", "max_connections", "timeout"];

#[derive(Deserialize)]
#[serde(default)]
struct Options {
    database: String,
    user: String,
    password: Secret,
    host: String,
    port: u16,
    table_name: String,
    sslmode: String,
    max_connections: u32,
    timeout: f64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            database: "vcon_db".into(),
            user: "postgres".into(),
            password: Secret::from(String::new()),
            host: "localhost".into(),
            port: 5432,
            table_name: "vcons".into(),
            sslmode: "prefer".into(),
            max_connections: 4,
            timeout: 30.0,
        }
    }
}

struct Postgres {
    pool: PgPool,
    timeout: Duration,
    secrets: Vec<Secret>,
    /// The table's name, quoted.
    table: String,
    /// The name of its index, quoted.
    index: String,
    /// Whether the table is known to be there.
    made: OnceCell<()>,
    legacy: bool,
}

pub(super) fn make(options: Value, environment: &Environment) -> Result<Box<dyn Storage>, OptionsError> {
    let options: Options = options::read(MODULE, options, OPTIONS)?;
    let timeout = super::http::seconds("timeout", options.timeout)?;
    let sslmode: PgSslMode = options.sslmode.parse().map_err(|_| {
        OptionsError::new("`sslmode` must be disable, allow, prefer, require, verify-ca or verify-full")
    })?;
    if options.table_name.is_empty() || options.table_name.len() > 63 || options.table_name.contains('\0') {
        return Err(OptionsError::new("`table_name` must be 1 to 63 bytes"));
    }
    let mut connect = PgConnectOptions::new_without_pgpass()
        .host(&options.host)
        .port(options.port)
        .username(&options.user)
        .database(&options.database)
        .ssl_mode(sslmode)
        .application_name("trunkline")
        // The server gives up too, when we did.
        .options([("statement_timeout", timeout.as_millis().to_string())]);
    if !options.password.expose().is_empty() {
        connect = connect.password(options.password.expose());
    }
    let pool = PgPoolOptions::new()
        .max_connections(options.max_connections.clamp(1, 100))
        .acquire_timeout(timeout)
        .idle_timeout(Duration::from_secs(300))
        .connect_lazy_with(connect);
    Ok(Box::new(Postgres {
        pool,
        timeout,
        secrets: vec![options.password],
        table: quoted(&options.table_name),
        index: quoted(&format!("{}_vcon_json", options.table_name)),
        made: OnceCell::new(),
        legacy: environment.legacy_format,
    }))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Postgres {
    /// Runs one piece of work within the time there is.
    async fn within<T>(&self, work: impl Future<Output = sqlx::Result<T>>) -> Result<T, StorageError> {
        match tokio::time::timeout(self.timeout, work).await {
            Ok(result) => result.map_err(|error| self.error(&error)),
            Err(_) => {
                Err(StorageError::temporary(format!("PostgreSQL did not answer within {:?}", self.timeout)))
            }
        }
    }

    fn error(&self, error: &sqlx::Error) -> StorageError {
        let text = match error {
            // Its details and context may repeat what was written.
            sqlx::Error::Database(error) => {
                let code = error.code().unwrap_or_default();
                format!("{} ({code})", error.message())
            }
            other => other.to_string(),
        };
        let reason = format!("PostgreSQL: {}", cleaned(&text, &self.secrets));
        let code = error.as_database_error().and_then(|error| error.code().map(String::from));
        match code {
            // Class 22: the data cannot be kept there, as text with U+0000 in JSONB; 54: it is too large.
            Some(code) if code.starts_with("22") || code.starts_with("54") => StorageError::permanent(reason),
            _ => StorageError::temporary(reason),
        }
    }

    /// Makes the table if it is not there. Somebody who may only write to it must not be asked to.
    async fn ensure_table(&self) -> sqlx::Result<()> {
        let make = || async {
            let known = "SELECT to_regclass($1) IS NOT NULL";
            let there: bool = sqlx::query_scalar(known).bind(&self.table).fetch_one(&self.pool).await?;
            if there {
                return Ok(());
            }
            let (table, index) = (&self.table, &self.index);
            let sql = format!(
                "CREATE TABLE IF NOT EXISTS {table} (id UUID NOT NULL PRIMARY KEY, vcon TEXT NOT NULL, \
                 uuid UUID NOT NULL, created_at TIMESTAMP NOT NULL, updated_at TIMESTAMP, subject TEXT, \
                 vcon_json JSONB); CREATE INDEX IF NOT EXISTS {index} ON {table} USING GIN (vcon_json)"
            );
            match sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.pool).await {
                // Made by somebody else at the same time: PostgreSQL then says so of its catalog.
                Err(sqlx::Error::Database(error))
                    if matches!(error.code().as_deref(), Some("23505" | "42P07")) =>
                {
                    Ok(())
                }
                result => result.map(drop),
            }
        };
        self.made.get_or_try_init(make).await.map(drop)
    }
}

#[async_trait]
impl Storage for Postgres {
    fn module(&self) -> &'static str {
        MODULE
    }

    async fn save(&self, vcon: &Vcon, _: &StorageContext) -> Result<(), StorageError> {
        let vcon = match self.legacy {
            true => &vcon.to_legacy(),
            false => vcon,
        };
        let text = vcon.to_bytes();
        let text = std::str::from_utf8(&text).map_err(|error| StorageError::permanent(error.to_string()))?;
        // The time as it is written, its offset from UTC left off: what the column's type makes of it.
        let created_at = match vcon.created_ms().and_then(|at| jiff::Timestamp::from_millisecond(at).ok()) {
            Some(at) => vcon.created_at().map_or_else(|| at.to_string(), Cow::into_owned),
            None => jiff::Timestamp::now().to_string(),
        };
        let sql = format!(
            "INSERT INTO {} (id, uuid, vcon, created_at, updated_at, subject, vcon_json) \
             VALUES ($1::text::uuid, $1::text::uuid, $2, $3::text::timestamp, now() AT TIME ZONE 'utc', $4, $5::text::jsonb) \
             ON CONFLICT (id) DO UPDATE SET uuid = excluded.uuid, vcon = excluded.vcon, created_at = excluded.created_at, \
             updated_at = excluded.updated_at, subject = excluded.subject, vcon_json = excluded.vcon_json",
            self.table
        );
        self.within(async {
            self.ensure_table().await?;
            sqlx::query(AssertSqlSafe(sql))
                .bind(vcon.uuid().to_owned())
                .bind(vcon.text("vcon").unwrap_or_default().into_owned())
                .bind(created_at)
                .bind(vcon.text("subject").map(Cow::into_owned))
                .bind(text.to_owned())
                .execute(&self.pool)
                .await
        })
        .await
        .map(drop)
    }

    async fn get(&self, uuid: &str) -> Result<Option<Vcon>, StorageError> {
        if !is_uuid(uuid) {
            return Ok(None);
        }
        let sql = format!("SELECT vcon_json::text FROM {} WHERE id = $1::text::uuid", self.table);
        let row = self
            .within(async {
                self.ensure_table().await?;
                sqlx::query(AssertSqlSafe(sql)).bind(uuid).fetch_optional(&self.pool).await
            })
            .await?;
        let text: Option<String> = match row {
            Some(row) => row.try_get(0).map_err(|error| self.error(&error))?,
            None => None,
        };
        text.map(Vcon::parse).transpose().map_err(|error| StorageError::permanent(error.to_string()))
    }

    async fn delete(&self, uuid: &str) -> Result<bool, StorageError> {
        if !is_uuid(uuid) {
            return Ok(false);
        }
        let sql = format!("DELETE FROM {} WHERE id = $1::text::uuid", self.table);
        let done = self
            .within(async {
                self.ensure_table().await?;
                sqlx::query(AssertSqlSafe(sql)).bind(uuid).execute(&self.pool).await
            })
            .await?;
        Ok(done.rows_affected() > 0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use testkit::services;

    use super::*;
    use crate::storages::conformance::{self, Refusing, SECRET, Silent, uuid};
    use crate::testing;

    fn options(database: &services::Database) -> Value {
        let url = url::Url::parse(&database.url()).unwrap();
        json!({
            "host": url.host_str().unwrap(), "port": url.port().unwrap_or(5432), "user": url.username(),
            "password": url.password().unwrap_or(""), "database": database.name(),
        })
    }

    async fn pool(database: &services::Database) -> PgPool {
        PgPool::connect(&database.url()).await.unwrap()
    }

    #[tokio::test]
    async fn conforms() {
        let Some(database) = services::postgres() else { return };
        conformance::keeps(&*make(options(&database), &testing::environment()).unwrap()).await;
        let mut strange = options(&database);
        strange["table_name"] = json!("my \"vcons\"; drop");
        conformance::keeps(&*make(strange, &testing::environment()).unwrap()).await;
    }

    #[tokio::test]
    async fn the_layout_is_the_conserver_s() {
        let Some(database) = services::postgres() else { return };
        let storage = make(options(&database), &testing::environment()).unwrap();
        let mut vcon = testing::vcon();
        vcon.set("created_at", "2026-11-20T23:30:00.123456-05:00");
        storage.save(&vcon, &testing::storage_context()).await.unwrap();
        let pool = pool(&database).await;
        let columns = "SELECT string_agg(column_name || ' ' || data_type || ' ' || is_nullable, ', ' ORDER BY ordinal_position) \
                       FROM information_schema.columns WHERE table_name = 'vcons'";
        let columns: String = sqlx::query_scalar(columns).fetch_one(&pool).await.unwrap();
        let expected = "id uuid NO, vcon text NO, uuid uuid NO, created_at timestamp without time zone NO, \
                        updated_at timestamp without time zone YES, subject text YES, vcon_json jsonb YES";
        assert_eq!(columns, expected);
        let row = "SELECT id::text, uuid::text, vcon, created_at::text, subject, vcon_json->'parties'->0->>'tel', \
                   updated_at IS NOT NULL FROM vcons";
        let row = sqlx::query(row).fetch_one(&pool).await.unwrap();
        let texts: Vec<String> = (0..6).map(|at| row.get(at)).collect();
        let made = "2026-11-20 23:30:00.123456";
        assert_eq!(texts, [vcon.uuid(), vcon.uuid(), "0.4.0", made, "A call", "+15551234567"]);
        assert!(row.get::<bool, _>(6));
        let index = "SELECT count(*) FROM pg_indexes WHERE indexname = 'vcons_vcon_json'";
        assert_eq!(sqlx::query_scalar::<_, i64>(index).fetch_one(&pool).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_table_that_the_conserver_made_is_used_with_no_right_to_make_one() {
        let Some(database) = services::postgres() else { return };
        let (uuid, role) = (uuid(), format!("{}_writer", database.name()));
        database.execute(&format!(
            "CREATE TABLE vcons (id UUID NOT NULL PRIMARY KEY, vcon TEXT NOT NULL, uuid UUID NOT NULL, \
             created_at TIMESTAMP NOT NULL, updated_at TIMESTAMP, subject TEXT, vcon_json JSONB); \
             INSERT INTO vcons VALUES ('{uuid}', '0.0.1', '{uuid}', '2024-01-02 03:04:05', now(), NULL, \
             '{{\"uuid\": \"{uuid}\", \"vcon\": \"0.0.1\"}}'); \
             REVOKE CREATE ON SCHEMA public FROM PUBLIC; CREATE ROLE {role} LOGIN; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON vcons TO {role}"
        ));
        let mut options = options(&database);
        options["user"] = json!(role);
        let storage = make(options, &testing::environment()).unwrap();
        let read = storage.get(&uuid).await.unwrap().unwrap();
        assert_eq!(read.text("vcon").unwrap(), "0.0.1");
        storage.save(&testing::vcon(), &testing::storage_context()).await.unwrap();
        drop(storage);
        database.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
    }

    #[tokio::test]
    async fn the_legacy_form_is_written_where_it_is_asked_for() {
        let Some(database) = services::postgres() else { return };
        let mut environment = testing::environment();
        environment.legacy_format = true;
        let storage = make(options(&database), &environment).unwrap();
        let mut vcon = testing::vcon();
        vcon.add_tag("a", "b");
        storage.save(&vcon, &testing::storage_context()).await.unwrap();
        let row = "SELECT vcon || ' ' || (vcon_json->>'vcon') || ' ' || (vcon_json->'attachments'->0->>'type') FROM vcons";
        let row: String = sqlx::query_scalar(row).fetch_one(&pool(&database).await).await.unwrap();
        assert_eq!(row, "0.0.1 0.0.1 tags");
    }

    #[tokio::test]
    async fn what_jsonb_cannot_hold_is_refused_for_good() {
        let Some(database) = services::postgres() else { return };
        let storage = make(options(&database), &testing::environment()).unwrap();
        let mut vcon = testing::vcon();
        vcon.set("subject", "a\u{0}b");
        let error = storage.save(&vcon, &testing::storage_context()).await.unwrap_err();
        assert!(!error.is_temporary() && !error.to_string().contains("+1555"), "{error}");
    }

    #[tokio::test]
    async fn fails_for_now() {
        let (refusing, silent) = (Refusing::new(), Silent::new());
        for port in [refusing.port(), silent.port()] {
            let options = json!({"host": "127.0.0.1", "port": port, "password": SECRET, "timeout": 0.3});
            conformance::fails_for_now(&*make(options, &testing::environment()).unwrap()).await;
        }
    }
}
