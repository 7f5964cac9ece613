//! Two adjacent versions share one database: what the older one asks and writes, the newer schema takes.

use std::collections::{BTreeMap, BTreeSet};

use base::Money;
use sqlx::{AssertSqlSafe, Executor as _, Row as _};

use super::{MIGRATIONS, Migration, pending};
use crate::db::{Db, Engine};
use crate::groups::GroupFields;
use crate::keys::{KeyFields, NewKey};
use crate::notifications::Notice;
use crate::testing::{on_each_empty_engine, replica};

/// A column as a program that does not know it meets it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Column {
    kind: String,
    /// A row cannot be written without saying it.
    required: bool,
}

/// Tables, each with its columns by name.
type Schema = BTreeMap<String, BTreeMap<String, Column>>;

async fn schema(db: &Db) -> Schema {
    let query = match db.engine() {
        Engine::Sqlite => {
            // A virtual table has no columns of its own kind, and its shadows are its own business.
            "SELECT m.name, p.name, p.type, CAST(p.\"notnull\" = 1 AND p.dflt_value IS NULL AND NOT \
                 (p.pk = 1 AND p.type = 'INTEGER') AS BIGINT) \
             FROM pragma_table_list m JOIN pragma_table_info(m.name) p \
             WHERE m.schema = 'main' AND m.type = 'table' AND m.name NOT LIKE 'sqlite_%'"
        }
        Engine::Postgres => {
            "SELECT CAST(table_name AS TEXT), CAST(column_name AS TEXT), CAST(data_type AS TEXT), \
                 CAST(CASE WHEN is_nullable = 'NO' AND column_default IS NULL AND is_identity = 'NO' THEN 1 ELSE 0 \
                 END AS BIGINT) \
             FROM information_schema.columns WHERE table_schema = current_schema()"
        }
    };
    let mut found = Schema::new();
    for row in sqlx::query(query).fetch_all(db.read()).await.unwrap() {
        let (table, name): (String, String) = (row.get(0), row.get(1));
        let column = Column { kind: row.get(2), required: row.get::<i64, _>(3) == 1 };
        found.entry(table).or_default().insert(name, column);
    }
    found.remove("migrations");
    found
}

/// A value that every constraint takes: one row of each table refers to the one row of the others.
fn sample(kind: &str) -> &'static str {
    match kind {
        "TEXT" | "text" | "tsvector" => "'1'",
        "BLOB" => "x'31'",
        "bytea" => "'1'",
        _ => "1",
    }
}

fn listed(columns: &BTreeMap<String, Column>, each: impl Fn(&str, &Column) -> String) -> String {
    columns.iter().map(|(name, column)| each(name, column)).collect::<Vec<_>>().join(", ")
}

/// Does with every table what a program of that schema does: writes a row with all the columns it knows, reads
/// them, changes them, removes the row.
async fn use_as(db: &Db, known: &Schema) {
    // Who is referred to comes first, and leaves last.
    let mut order: Vec<&String> = known.keys().collect();
    order.sort_by_key(|table| table.as_str() != "groups");
    for table in &order {
        let columns = &known[*table];
        let names = listed(columns, |name, _| format!("\"{name}\""));
        let values = listed(columns, |_, column| sample(&column.kind).to_owned());
        let changes = listed(columns, |name, column| format!("\"{name}\" = {}", sample(&column.kind)));
        let insert = format!("INSERT INTO {table} ({names}) VALUES ({values})");
        let select = format!("SELECT COUNT(*) FROM (SELECT {names} FROM {table} WHERE 1 = 1) AS found");
        let update = format!("UPDATE {table} SET {changes}");
        db.write().execute(sqlx::raw_sql(AssertSqlSafe(insert))).await.unwrap();
        let found: i64 = sqlx::query_scalar(AssertSqlSafe(select)).fetch_one(db.read()).await.unwrap();
        assert!(found >= 1, "{table}");
        if table.as_str() != "meta" {
            db.write().execute(sqlx::raw_sql(AssertSqlSafe(update))).await.unwrap();
        }
    }
    for table in order.iter().rev().filter(|table| table.as_str() != "meta") {
        db.write().execute(sqlx::raw_sql(AssertSqlSafe(format!("DELETE FROM {table}")))).await.unwrap();
    }
    db.write().execute(sqlx::raw_sql("DELETE FROM meta WHERE name = '1'")).await.unwrap();
}

/// Mutation: a step that drops, renames or retypes a column, or adds one that must be said, fails here.
#[tokio::test]
async fn promise_p18_every_step_only_adds_to_what_the_version_before_it_knows() {
    on_each_empty_engine(|db| async move {
        let mut before = Schema::new();
        for (index, step) in MIGRATIONS.iter().enumerate() {
            let done = db.migrate_as(&MIGRATIONS[..=index]).await.unwrap();
            assert_eq!(done.iter().map(|step| step.version).collect::<Vec<_>>(), [step.version]);
            assert_eq!(step.version, index as i64 + 1);
            let after = schema(&db).await;
            if index > 0 {
                assert!(
                    step.readable_from < step.version,
                    "the version before step {} is shut out",
                    step.version
                );
            }
            for (table, columns) in &before {
                for (name, column) in columns {
                    let now = after.get(table).and_then(|columns| columns.get(name));
                    assert_eq!(now, Some(column), "step {} changes {table}.{name}", step.version);
                }
                let old: BTreeSet<_> = columns.keys().collect();
                for (name, column) in after[table].iter().filter(|(name, _)| !old.contains(name)) {
                    assert!(!column.required, "step {}: nobody before it says {table}.{name}", step.version);
                }
            }
            use_as(&db, &before).await;
            use_as(&db, &after).await;
            before = after;
        }
    })
    .await;
}

/// A rollout: the new version migrates while the old one runs, both go on, and the old one may come back.
#[tokio::test]
async fn promise_p18_the_version_before_goes_on_beside_the_new_one_and_after_it() {
    on_each_empty_engine(|db| async move {
        let old_program = &MIGRATIONS[..MIGRATIONS.len() - 1];
        db.migrate_as(old_program).await.unwrap();
        let fields = GroupFields { name: "team".into(), ..GroupFields::default() };
        let group = db.create_group(&fields, Money::nanos(1_000), "old").await.unwrap();

        let new = replica(&db).await;
        assert_eq!(new.migrate().await.unwrap().len(), 1);
        assert_eq!(new.group(group.id).await.unwrap().balance, Money::nanos(1_000));
        let notice = Notice {
            kind: "budget".into(),
            severity: "warning".into(),
            subject: "one".into(),
            message: "half is spent".into(),
            group_id: Some(group.id),
            key_id: None,
        };
        new.notify(&notice).await.unwrap();

        // The old one goes on with the connections it has, and starts again: a rollback.
        let key = NewKey { hash: "ab".repeat(32), hint: "ab".into() };
        let named = KeyFields {
            name: "k".into(),
            group_id: Some(group.id),
            role: "caller".into(),
            ..Default::default()
        };
        let made = db.create_key(&named, &key).await.unwrap();
        assert_eq!(new.key(made.id).await.unwrap(), made);
        let again = replica(&db).await;
        assert_eq!(
            again.migrate_as(old_program).await.unwrap().len(),
            0,
            "nothing is undone, nothing refused"
        );
        again.delete_key(made.id, None).await.unwrap();
        assert_eq!(new.pending_migrations().await.unwrap().len(), 0);
        assert_eq!(
            new.notifications(true, 0, 10).await.unwrap().len(),
            1,
            "what only the new one knows stays"
        );
        new.close().await;
        again.close().await;
    })
    .await;
}

#[test]
fn a_program_that_is_too_old_is_told_so() {
    let first = &MIGRATIONS[..1];
    assert_eq!(pending(first, 2, 1).unwrap().len(), 0);
    let error = pending(first, 3, 2).unwrap_err().to_string();
    assert!(error.contains("schema 3") && error.contains("run the newer version"), "{error}");
    let versions = |steps: Vec<Migration>| steps.iter().map(|step| step.version).collect::<Vec<_>>();
    assert_eq!(versions(pending(MIGRATIONS, 1, 1).unwrap()).first(), Some(&2));
}
