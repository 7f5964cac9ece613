//! Roles, and what each may do.

use super::entries::{self, Words};
use crate::admin::Route;
use crate::configuration::RoleSection;

pub(super) fn routes() -> Vec<Route> {
    entries::routes::<RoleSection>(&Words {
        all: "/api/roles",
        one: "/api/roles/{name}",
        list: ("roles.list", "Lists roles, those that are built in and those of the settings file too."),
        create: ("roles.create", "Adds a role, or replaces `viewer` or `caller`."),
        show: ("roles.show", "Shows a role."),
        update: ("roles.update", "Edits a role."),
        replace: ("roles.replace", "Makes a role say just this."),
        delete: ("roles.delete", "Removes a role; keys that have it may do nothing."),
    })
}
