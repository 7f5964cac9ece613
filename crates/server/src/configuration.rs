//! What is configured: the settings file and what the admin API has added to it, in force on this replica.
//!
//! The file and the API never say something about the same name: at start that is an error, and the API refuses
//! it. What the API makes are documents of the Store; whoever changes one puts it in force on its own replica
//! before it answers, and the others hear of it by [`Access::changes`].

mod check;
mod file;
mod merge;
mod section;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use access::Access;
use access::ip::IpRule;
use access::limits::LimitSettings;
use arc_swap::ArcSwap;
use gateway::Control;
use store::{Change, StoreError};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::AbortHandle;

pub use file::FileConfiguration;
pub(crate) use merge::{IP_RULE, InForce, KINDS, LIMITS, LeftOut, SETTINGS};
pub(crate) use section::{DocumentError, RoleSection, Section, Wrong};

use merge::{Documents, merge};

/// Why a configuration cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// The documents cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file is wrong.
    #[error("{0}")]
    File(String),
    /// The file and the API say something about the same.
    #[error(
        "set in the settings file and by the API: {0}. Remove each from the file, or remove what the API has made \
         (start without it in the file, then DELETE it)"
    )]
    Twice(String),
}

/// What is configured, and put in force.
pub struct Configuration {
    access: Arc<Access>,
    control: Control,
    sources: Mutex<Sources>,
    in_force: ArcSwap<InForce>,
    /// One at a time reads the documents.
    refreshing: tokio::sync::Mutex<()>,
    /// One at a time changes them here, so that what was checked together is saved together.
    changing: tokio::sync::Mutex<()>,
    following: OnceLock<AbortHandle>,
    /// What has to hear of other limits and rules.
    hooks: Mutex<Vec<Hook>>,
}

/// Takes the limits and the rules about addresses that are in force.
type Hook = Box<dyn Fn(&LimitSettings, &[IpRule]) + Send + Sync>;

/// What is merged.
struct Sources {
    file: Arc<FileConfiguration>,
    documents: Arc<Documents>,
}

impl Configuration {
    /// Puts the file and the documents in force, and follows their changes from then on. On the runtime that the
    /// Store is spoken to on.
    pub(crate) async fn start(
        file: FileConfiguration,
        access: &Arc<Access>,
        control: Control,
    ) -> Result<Arc<Self>, ConfigurationError> {
        // Before anything is read, so that nothing is missed.
        let changes = access.changes();
        let documents = Documents::read(access.db()).await?;
        let merged =
            merge(&file, &documents, access.sealer().as_deref()).map_err(ConfigurationError::File)?;
        refuse_twice(&merged)?;
        control.reload(&merged.gateway).map_err(ConfigurationError::File)?;
        report(&merged, &[]);
        if access.roles() != merged.roles {
            access.set_roles(merged.roles.clone()).await;
        }
        let configuration = Arc::new(Configuration {
            access: Arc::clone(access),
            control,
            sources: Mutex::new(Sources { file: Arc::new(file), documents: Arc::new(documents) }),
            in_force: ArcSwap::from_pointee(merged),
            refreshing: tokio::sync::Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            following: OnceLock::new(),
            hooks: Mutex::default(),
        });
        let task = tokio::spawn(follow(Arc::downgrade(&configuration), changes));
        // It was not set before.
        drop(configuration.following.set(task.abort_handle()));
        Ok(configuration)
    }

    /// What is in force.
    pub(crate) fn in_force(&self) -> Arc<InForce> {
        self.in_force.load_full()
    }

    /// The settings file's part.
    pub(crate) fn file(&self) -> Arc<FileConfiguration> {
        Arc::clone(&self.lock().file)
    }

    /// Puts another file in force. On error everything stays as it was. Roles follow in a moment.
    pub(crate) fn reload(
        self: &Arc<Self>,
        file: FileConfiguration,
        control: &tokio::runtime::Handle,
    ) -> Result<(), String> {
        let mut sources = self.lock();
        let merged = merge(&file, &sources.documents, self.access.sealer().as_deref())?;
        refuse_twice(&merged).map_err(|error| error.to_string())?;
        self.control.reload(&merged.gateway)?;
        sources.file = Arc::new(file);
        self.take(merged);
        drop(sources);
        let this = Arc::clone(self);
        control.spawn(async move { this.refresh().await });
        Ok(())
    }

    /// Reads the documents anew and puts them in force.
    pub(crate) async fn refresh(&self) {
        let _one = self.refreshing.lock().await;
        let documents = match Documents::read(self.access.db()).await {
            Ok(documents) => documents,
            Err(error) => {
                tracing::error!(%error, "the configuration cannot be read; what is known stays in force");
                return;
            }
        };
        if let Err(error) = self.apply(documents) {
            tracing::error!(error, "the configuration cannot be put in force; what was stays");
            return;
        }
        let roles = self.in_force().roles.clone();
        if self.access.roles() != roles {
            self.access.set_roles(roles).await;
        }
    }

    fn apply(&self, documents: Documents) -> Result<(), String> {
        let mut sources = self.lock();
        let merged = merge(&sources.file, &documents, self.access.sealer().as_deref())?;
        self.control.reload(&merged.gateway)?;
        sources.documents = Arc::new(documents);
        self.take(merged);
        Ok(())
    }

    fn take(&self, merged: InForce) {
        report(&merged, &self.in_force().left_out);
        for hook in self.hooks.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            hook(&merged.limits, &merged.ip_rules);
        }
        self.in_force.store(Arc::new(merged));
    }

    /// Calls this with the limits and the rules about addresses in force: now, and whenever something changes.
    /// It must not ask this configuration anything: that would wait for itself.
    pub fn when_changed(&self, hook: impl Fn(&LimitSettings, &[IpRule]) + Send + Sync + 'static) {
        // Held meanwhile, so that what changes in this moment comes after what is now.
        let _sources = self.lock();
        let now = self.in_force();
        hook(&now.limits, &now.ip_rules);
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(hook));
    }

    /// Held while something is checked and saved.
    pub(crate) async fn changing(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    /// Whether an entry of a section could be saved beside what is in force.
    pub(crate) fn check<T: Section>(&self, name: &str, value: &T) -> Result<(), Wrong> {
        value.check(name, &self.in_force())
    }

    fn lock(&self) -> MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Configuration {
    fn drop(&mut self) {
        if let Some(task) = self.following.get() {
            task.abort();
        }
    }
}

/// That a name is in both places must be found out before anybody relies on one of them.
fn refuse_twice(merged: &InForce) -> Result<(), ConfigurationError> {
    let twice = merged.left_out.iter().filter(|left_out| left_out.in_file);
    let names: Vec<String> = twice.map(|left_out| format!("{} `{}`", left_out.kind, left_out.name)).collect();
    if names.is_empty() { Ok(()) } else { Err(ConfigurationError::Twice(names.join(", "))) }
}

/// Says once what is not in force.
fn report(merged: &InForce, before: &[LeftOut]) {
    for LeftOut { kind, name, why, .. } in merged.left_out.iter().filter(|one| !before.contains(one)) {
        tracing::error!(kind, name, why, "a document made by the API is not in force");
    }
}

/// Puts in force what other replicas change.
async fn follow(configuration: Weak<Configuration>, mut changes: Receiver<Change>) {
    loop {
        let ours = match changes.recv().await {
            Ok(change) => is_ours(&change),
            Err(RecvError::Lagged(_)) => true,
            Err(RecvError::Closed) => return,
        };
        if !ours {
            continue;
        }
        // What came meanwhile is read with it.
        while changes.try_recv().is_ok() {}
        let Some(configuration) = configuration.upgrade() else { return };
        configuration.refresh().await;
    }
}

fn is_ours(change: &Change) -> bool {
    change.kind == Change::ALL || KINDS.contains(&change.kind.as_str())
}

#[cfg(test)]
mod tests;
