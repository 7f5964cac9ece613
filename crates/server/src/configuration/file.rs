//! The part of the settings file that the admin API can add to.

use std::sync::Arc;

use access::identity::{RbacSettings, RoleSettings};
use access::limits::LimitSettings;
use access::prices::{PriceTable, Prices};
use gateway::GatewaySettings;
use gateway::settings::{Models, Providers, ResilienceSettings};

/// What the settings file says of providers, models, prices, roles and limits.
#[derive(Clone, Debug, Default)]
pub struct FileConfiguration {
    /// `providers:`.
    pub providers: Providers,
    /// `models:`.
    pub models: Models,
    /// `resilience:`.
    pub resilience: ResilienceSettings,
    /// `prices:`.
    pub prices: Prices,
    /// `roles:`.
    pub roles: RoleSettings,
    /// `rbac:`.
    pub rbac: RbacSettings,
    /// `limits:`. As long as these are the defaults, the API may set them.
    pub limits: LimitSettings,
    /// `server.max_concurrent_requests`.
    pub max_concurrent_requests: u32,
}

impl FileConfiguration {
    /// What a gateway needs of it, before the documents of the Store are read.
    pub fn gateway_settings(&self) -> Result<GatewaySettings, String> {
        let prices = PriceTable::new(&self.prices, &Prices::new()).map_err(|e| format!("prices: {e}"))?;
        Ok(GatewaySettings {
            providers: self.providers.clone(),
            models: self.models.clone(),
            resilience: self.resilience.clone(),
            prices: Arc::new(prices),
            max_concurrent_requests: self.max_concurrent_requests,
        })
    }

    /// Whether the file limits anything.
    pub(crate) fn sets_limits(&self) -> bool {
        self.limits != LimitSettings::default()
    }
}
