//! From figures to the table, the Conserver's beside them.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

/// A target, in the figure's unit.
#[derive(Clone, Copy)]
pub enum Target {
    AtMost(f64),
    AtLeast(f64),
}

/// One figure.
#[derive(Serialize)]
pub struct Row {
    pub name: String,
    pub unit: &'static str,
    pub value: f64,
    /// What the Conserver was measured at, on a machine of two cores too, in another run.
    pub conserver: Option<f64>,
    pub target: Option<String>,
    pub met: Option<bool>,
}

impl Row {
    pub fn new(
        name: impl Into<String>,
        unit: &'static str,
        value: f64,
        conserver: Option<f64>,
        target: Option<Target>,
    ) -> Row {
        let met = target.map(|target| match target {
            Target::AtMost(most) => value <= most,
            Target::AtLeast(least) => value >= least,
        });
        let target = target.map(|target| match target {
            Target::AtMost(most) => format!("≤ {most} {unit}"),
            Target::AtLeast(least) => format!("≥ {least} {unit}"),
        });
        Row { name: name.into(), unit, value, conserver, target, met }
    }
}

/// The table for people, which is Markdown too.
pub fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["", "Conserver", "trunkline", "target", ""]);
    for row in rows {
        let figure = |value: f64| match value {
            value if value >= 1000.0 => format!("{value:.0} {}", row.unit),
            value if value >= 10.0 => format!("{value:.1} {}", row.unit),
            value => format!("{value:.3} {}", row.unit),
        };
        table.add_row([
            row.name.clone(),
            row.conserver.map_or_else(|| "–".to_owned(), figure),
            figure(row.value),
            row.target.clone().unwrap_or_default(),
            row.met.map_or("", |met| if met { "ok" } else { "MISSED" }).to_owned(),
        ]);
    }
    for index in 1..=2 {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// The value that this share of all is not above.
pub fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get(((values.len() as f64 * share) as usize).min(last)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_held() {
        for (value, target, met) in [
            (0.15, Target::AtMost(0.15), true),
            (0.16, Target::AtMost(0.15), false),
            (5000.0, Target::AtLeast(5000.0), true),
            (4999.0, Target::AtLeast(5000.0), false),
        ] {
            let row = Row::new("x", "ms", value, Some(2.0), Some(target));
            assert_eq!(row.met, Some(met));
            assert_eq!(table(&[row]).to_string().contains("MISSED"), !met);
        }
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let mut values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!((percentile(&mut values, 0.5), percentile(&mut values, 0.99)), (51.0, 100.0));
        assert_eq!((percentile(&mut [7.0], 0.99), percentile(&mut [], 0.5)), (7.0, 0.0));
    }
}
