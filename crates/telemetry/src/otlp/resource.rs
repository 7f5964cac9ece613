//! Who sends: the attributes that every span and metric shares.

use std::collections::BTreeMap;

use base::TraceContext;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1 as proto;

use super::span::key_value;
use crate::settings::TelemetrySettings;

/// The resource (<https://opentelemetry.io/docs/specs/semconv/resource/>) of this application.
#[derive(Clone, Debug)]
pub struct Resource {
    version: String,
    attributes: BTreeMap<String, String>,
}

impl Resource {
    /// `service.*`, `deployment.environment.name`, `host.name`, and the settings' own attributes, which
    /// win. `service.instance.id` is a new random UUID.
    pub fn new(settings: &TelemetrySettings, version: &str) -> Self {
        let service = settings.service.clone().unwrap_or_else(|| "trunkline".into());
        let mut attributes = BTreeMap::from([
            ("service.name".to_owned(), service),
            ("service.version".to_owned(), version.to_owned()),
            ("service.instance.id".to_owned(), uuid()),
        ]);
        if let Some(environment) = &settings.environment {
            attributes.insert("deployment.environment.name".into(), environment.clone());
        }
        if let Ok(host) = std::fs::read_to_string("/proc/sys/kernel/hostname") {
            attributes.insert("host.name".into(), host.trim().into());
        }
        attributes.extend(settings.attributes.clone());
        Resource { version: version.into(), attributes }
    }

    /// Our own version.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    pub(super) fn proto(&self) -> proto::Resource {
        let attributes = self.attributes.iter();
        let attributes: Vec<KeyValue> =
            attributes.map(|(key, value)| key_value(key.clone(), value.clone().into())).collect();
        proto::Resource { attributes, ..Default::default() }
    }

    pub(super) fn scope(&self) -> InstrumentationScope {
        InstrumentationScope { name: "trunkline".into(), version: self.version.clone(), ..Default::default() }
    }
}

/// A random UUID, version 4 (RFC 9562 §5.4).
fn uuid() -> String {
    // A new trace id is 128 random bits, and `base` is where random bits come from.
    let mut bits = u128::from_be_bytes(TraceContext::from_header(None).trace_id);
    bits &= !(0xf << 76 | 0x3 << 62);
    bits |= 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_a_uuid_of_version_4() {
        let id = uuid();
        let groups: Vec<&str> = id.split('-').collect();
        assert_eq!(groups.iter().map(|group| group.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert!(groups[2].starts_with('4') && groups[3].starts_with(['8', '9', 'a', 'b']), "{id}");
        assert_ne!(id, uuid());
    }
}
