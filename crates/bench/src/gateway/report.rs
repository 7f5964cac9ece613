//! From samples to the table.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use super::measures::{Measure, Target};
use super::subject::System;

/// Every figure of every round.
#[derive(Default, Serialize)]
#[serde(transparent)]
pub struct Samples(BTreeMap<Measure, BTreeMap<System, Vec<f64>>>);

impl Samples {
    /// Notes a figure, in the measure's unit.
    pub fn add(&mut self, measure: Measure, system: System, value: f64) {
        self.0.entry(measure).or_default().entry(system).or_default().push(value);
    }

    fn of(&self, measure: Measure, system: System) -> &[f64] {
        self.0.get(&measure).and_then(|systems| systems.get(&system)).map_or(&[], Vec::as_slice)
    }

    /// The median of the rounds.
    fn median(&self, measure: Measure, system: System) -> Option<f64> {
        median(self.of(measure, system).to_vec())
    }

    /// The median of what each round had over the same round of `base`.
    fn over(&self, measure: Measure, system: System, base: System) -> Option<f64> {
        let pairs = self.of(measure, system).iter().zip(self.of(measure, base));
        median(pairs.map(|(value, base)| value - base).collect())
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { f64::midpoint(values[middle - 1], upper) })
}

/// One line of the result. Figures are medians over the rounds, in the unit of the measure.
#[derive(Serialize)]
pub struct Row {
    measure: Measure,
    direct: Option<f64>,
    nginx: Option<f64>,
    trunkline: Option<f64>,
    /// What nginx adds to the direct way.
    nginx_added: Option<f64>,
    /// What Trunkline adds to the direct way.
    trunkline_added: Option<f64>,
    /// Trunkline's figure over the direct one.
    ratio_to_direct: Option<f64>,
    /// Trunkline's figure over nginx's.
    ratio_to_nginx: Option<f64>,
    target: Option<String>,
    met: Option<bool>,
}

/// The lines for which there are figures.
pub fn rows(samples: &Samples) -> Vec<Row> {
    Measure::ALL
        .into_iter()
        .filter(|measure| samples.0.contains_key(measure))
        .map(|m| row(samples, m))
        .collect()
}

fn row(samples: &Samples, measure: Measure) -> Row {
    let [direct, nginx, trunkline] = System::ALL.map(|system| samples.median(measure, system));
    let added =
        |system| measure.is_latency().then(|| samples.over(measure, system, System::Direct)).flatten();
    let ratio = |base: Option<f64>| Some(trunkline? / base?);
    let (trunkline_added, ratio_to_nginx) = (added(System::Trunkline), ratio(nginx));
    let target = measure.target();
    let met = target.and_then(|target| {
        Some(match target {
            Target::AtMost(most) => trunkline? <= most,
            Target::Added(most) => trunkline_added? <= most,
            Target::OverNginx(most) => samples.over(measure, System::Trunkline, System::Nginx)? <= most,
            Target::TimesNginx(most) => ratio_to_nginx? <= most,
            Target::AtLeastTimesNginx(least) => ratio_to_nginx? >= least,
        })
    });
    Row {
        measure,
        direct,
        nginx,
        trunkline,
        nginx_added: added(System::Nginx),
        trunkline_added,
        ratio_to_direct: ratio(direct),
        ratio_to_nginx,
        target: target.map(|target| target.show(measure.unit())),
        met,
    }
}

/// Whether no target was missed. What was not measured was not missed.
pub fn all_met(rows: &[Row]) -> bool {
    rows.iter().all(|row| row.met != Some(false))
}

/// The table for people, which is Markdown too.
pub fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["", "direct", "nginx", "trunkline", "÷ direct", "÷ nginx", "target", ""]);
    for row in rows {
        let unit = row.measure.unit();
        let none = || "–".to_owned();
        let figure = |value: Option<f64>, added: Option<f64>| match (value, added) {
            (Some(value), Some(added)) => format!("{} ({added:+.1})", unit.show(value)),
            (Some(value), None) => unit.show(value),
            (None, _) => none(),
        };
        let ratio = |value: Option<f64>| value.map_or_else(none, |value| format!("{value:.2}"));
        table.add_row([
            row.measure.label().to_owned(),
            figure(row.direct, None),
            figure(row.nginx, row.nginx_added),
            figure(row.trunkline, row.trunkline_added),
            ratio(row.ratio_to_direct),
            ratio(row.ratio_to_nginx),
            row.target.clone().unwrap_or_default(),
            row.met.map_or("", |met| if met { "ok" } else { "MISSED" }).to_owned(),
        ]);
    }
    for index in 1..=5 {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(measure: Measure, figures: [&[f64]; 3]) -> Samples {
        let mut samples = Samples::default();
        for (system, values) in System::ALL.into_iter().zip(figures) {
            values.iter().for_each(|value| samples.add(measure, system, *value));
        }
        samples
    }

    #[test]
    fn what_is_added_is_the_median_of_the_rounds_differences() {
        // Medians alone would say 160 - 70 = 90.
        let samples = samples(Measure::OneP50, [&[60.0, 70.0, 200.0], &[], &[160.0, 125.0, 250.0]]);
        let row = &rows(&samples)[0];
        assert_eq!((row.direct, row.trunkline, row.trunkline_added), (Some(70.0), Some(160.0), Some(55.0)));
        assert_eq!((row.nginx, row.ratio_to_nginx, row.met), (None, None, Some(true)));
    }

    #[test]
    fn targets_are_held_against_the_right_figure() {
        type Case<'a> = (Measure, [&'a [f64]; 3], Option<bool>);
        let cases: [Case<'_>; 9] = [
            (Measure::OneP99, [&[100.0], &[150.0], &[201.0]], Some(false)),
            (Measure::OneCpu, [&[], &[40.0], &[68.0]], Some(true)),
            (Measure::ManyCpu, [&[], &[20.0], &[28.1]], Some(false)),
            (Measure::ManyRate, [&[9e4], &[4e4], &[2.4e4]], Some(true)),
            (Measure::ManyRate, [&[9e4], &[4e4], &[2.3e4]], Some(false)),
            (Measure::ManyRate, [&[9e4], &[], &[2.3e4]], None),
            (Measure::StreamsP99, [&[500.0], &[900.0], &[1901.0]], Some(false)),
            (Measure::MemoryIdle, [&[], &[], &[20.0]], Some(true)),
            (Measure::Start, [&[], &[9.0], &[100.5]], Some(false)),
        ];
        for (measure, figures, met) in cases {
            let rows = rows(&samples(measure, figures));
            assert_eq!(rows[0].met, met, "{measure:?}");
            assert_eq!(all_met(&rows), met != Some(false), "{measure:?}");
            assert_eq!(table(&rows).to_string().contains("MISSED"), met == Some(false), "{measure:?}");
        }
    }
}
