//! Aliases: the names that clients use and where they lead.

use gateway::settings::ModelSettings;

use super::entries::{self, Words};
use crate::admin::Route;

pub(super) fn routes() -> Vec<Route> {
    entries::routes::<ModelSettings>(&Words {
        all: "/api/models",
        one: "/api/models/{name}",
        list: ("models.list", "Lists aliases, those of the settings file too."),
        create: ("models.create", "Adds an alias."),
        show: ("models.show", "Shows an alias."),
        update: ("models.update", "Edits an alias."),
        replace: ("models.replace", "Makes an alias say just this."),
        delete: ("models.delete", "Removes an alias that no other falls back to."),
    })
}
