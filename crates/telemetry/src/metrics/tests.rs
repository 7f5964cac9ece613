use super::*;

fn metrics() -> Metrics {
    Metrics::new().unwrap()
}

/// The lines of a family, without those of others.
fn rendered(metrics: &Metrics, name: &str) -> String {
    let ours =
        |line: &&str| line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ").starts_with(name);
    metrics.render().lines().filter(ours).map(|line| format!("{line}\n")).collect()
}

#[test]
fn renders_the_text_format() {
    let metrics = metrics();
    let family = Family::new("calls_total", "Calls.").labels(&["model", "outcome"]);
    let calls = metrics.counter(&family).unwrap();
    calls.with(&["smart", "ok"]).inc();
    calls.with(&["smart", "ok"]).inc_by(2);
    calls.with(&["a\"\\\nb", "failed"]).inc();
    let open = metrics.gauge(&Family::new("open", "Open.")).unwrap();
    open.with(&[]).set(1.5);
    let took = metrics.histogram(&Family::new("took_seconds", "Took."), &[0.1, 1.0]).unwrap();
    took.with(&[]).observe(0.1);
    took.with(&[]).observe(5.0);
    assert_eq!(
        rendered(&metrics, "calls_total"),
        "# HELP calls_total Calls.\n# TYPE calls_total counter\n\
         calls_total{model=\"a\\\"\\\\\\nb\",outcome=\"failed\"} 1\n\
         calls_total{model=\"smart\",outcome=\"ok\"} 3\n"
    );
    assert_eq!(rendered(&metrics, "open"), "# HELP open Open.\n# TYPE open gauge\nopen 1.5\n");
    assert_eq!(
        rendered(&metrics, "took_seconds"),
        "# HELP took_seconds Took.\n# TYPE took_seconds histogram\n\
         took_seconds_bucket{le=\"0.1\"} 1\ntook_seconds_bucket{le=\"1\"} 1\n\
         took_seconds_bucket{le=\"+Inf\"} 2\ntook_seconds_sum 5.1\ntook_seconds_count 2\n"
    );
}

#[test]
fn label_sets_beyond_the_bound_collapse() {
    let metrics = metrics();
    let family = Family::new("calls_total", "Calls.").labels(&["model", "key"]).max_series(3);
    let calls = metrics.counter(&family).unwrap();
    for n in 0..1000 {
        calls.with(&[&format!("m{n}"), "k"]).inc();
    }
    // Those that were there first keep counting.
    calls.with(&["m1", "k"]).inc();
    let text = rendered(&metrics, "calls_total");
    assert!(text.contains("{model=\"m1\",key=\"k\"} 2\n"), "{text}");
    assert!(text.contains("{model=\"other\",key=\"other\"} 997\n"), "{text}");
    assert_eq!(text.lines().count(), 2 + 3 + 1);
}

#[test]
fn a_very_long_label_value_is_not_kept() {
    let metrics = metrics();
    let calls = metrics.counter(&Family::new("calls_total", "Calls.").labels(&["model"])).unwrap();
    calls.with(&[&"m".repeat(201)]).inc();
    calls.with(&[&"m".repeat(200)]).inc();
    let text = rendered(&metrics, "calls_total");
    assert!(text.contains("{model=\"other\"} 1\n") && text.contains(&"m".repeat(200)), "{text}");
}

#[test]
fn label_sets_that_join_to_the_same_text_are_two() {
    let metrics = metrics();
    let calls = metrics.counter(&Family::new("calls_total", "Calls.").labels(&["a", "b"])).unwrap();
    calls.with(&["a", "bc"]).inc();
    calls.with(&["ab", "c"]).inc_by(5);
    assert_eq!(calls.with(&["a", "bc"]).get(), 1);
    assert_eq!(calls.with(&["ab", "c"]).get(), 5);
}

#[test]
fn handles_of_many_threads_are_one_series() {
    let metrics = metrics();
    let calls = metrics.counter(&Family::new("calls_total", "Calls.").labels(&["model"])).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1000).for_each(|n| calls.with(&[["a", "b"][n % 2]]).inc()));
        }
    });
    assert_eq!((calls.with(&["a"]).get(), calls.with(&["b"]).get()), (2000, 2000));
}

#[test]
fn a_family_is_declared_once_and_well() {
    let metrics = metrics();
    let family = Family::new("calls_total", "Calls.");
    metrics.counter(&family).unwrap();
    assert!(matches!(metrics.counter(&family), Err(Error::Metric { .. })));
    assert!(metrics.gauge(&Family::new("no spaces", "Bad.")).is_err());
    assert!(metrics.gauge(&Family::new("bad_label", "Bad.").labels(&["a-b"])).is_err());
    assert!(metrics.histogram(&Family::new("unsorted", "Bad."), &[2.0, 1.0]).is_err());
    assert!(metrics.gauge(&Family::new("many", "Bad.").labels(&["a"; 17])).is_err());
    // Another application in the same process is another registry.
    super::tests::metrics().counter(&family).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn the_process_is_described() {
    let text = metrics().render();
    let value = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    };
    let memory = memory_bytes().unwrap() as f64;
    assert!((value("process_resident_memory_bytes") / memory - 1.0).abs() < 0.5);
    assert!(value("process_virtual_memory_bytes") >= memory / 2.0);
    assert!(value("process_open_fds") >= 3.0);
    assert!(value("process_max_fds") >= value("process_open_fds"));
    assert!(value("process_threads") >= 1.0);
    assert!(value("process_cpu_seconds_total") >= 0.0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    let age = now - value("process_start_time_seconds");
    assert!((-2.0..3600.0).contains(&age), "{age}");
    assert!(text.contains("# TYPE process_cpu_seconds_total counter"));
}
