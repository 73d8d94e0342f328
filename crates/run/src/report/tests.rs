use proptest::prelude::*;

use super::*;

/// A report with every kind of section, as a run of unlearning would write it.
fn example() -> Report {
    let curve =
        |f: &dyn Fn(f64) -> f64| (0..=60).map(|i| (f64::from(i) * 5.0, f(f64::from(i) / 60.0))).collect();
    let band = |points: &Vec<(f64, f64)>, by: f64| points.iter().map(|(_, y)| (y - by, y + by)).collect();
    let forget: Vec<_> =
        curve(&|t| 0.93 - 0.85 / (1.0 + (-(t - 0.35) * 14.0).exp()) + 0.02 * (t * 40.0).sin());
    let retain: Vec<_> = curve(&|t| 0.94 - 0.06 * t + 0.012 * (t * 55.0).cos());
    let holdout: Vec<_> = curve(&|t| 0.12 + 0.015 * (t * 30.0).sin());
    let (forget_band, retain_band) = (band(&forget, 0.04), band(&retain, 0.02));
    let plot = Plot::new("Probability of the right answer", "step", "probability")
        .with(Series::new("forget set", forget).with_band(forget_band))
        .with(Series::new("retain set", retain).with_band(retain_band))
        .with(Series::new("never seen", holdout));
    let mut loss = Plot::new("Loss", "step", "nats per token")
        .with(Series::new("forget", (1..80).map(|i| (f64::from(i), 0.01 * f64::from(i).powi(2))).collect()))
        .with(Series::new("retain", (1..80).map(|i| (f64::from(i), 2.0 / f64::from(i))).collect()))
        .with(Series::new(
            "relearned",
            (1..80).map(|i| (f64::from(i), 0.3 + 0.1 * f64::from(i % 7))).collect(),
        ))
        .with(Series::new("reference", (1..80).map(|i| (f64::from(i), 20.0)).collect()));
    loss.log_y = true;
    let figure = |value: f64, stderr: f64| Cell::from(Figure { value, n: 400, stderr: Some(stderr) });
    let mut report = Report::new("Unlearning 10 authors with NPO and SAGO");
    report
        .prose(
            "The model no longer tells what it knew about the forget set, and keeps the rest. Lower is better \
             on the forget set, higher elsewhere; see `results.json`.\n\nThe relearning attack brings some back.",
        )
        .heading("Before and after")
        .push(Section::Table(Table {
            caption: "ROUGE-L of the answers, mean ± standard error over 400 questions.".into(),
            columns: ["set", "before", "after", "after attack"].map(String::from).to_vec(),
            rows: vec![
                vec!["forget".into(), figure(0.921, 0.008), figure(0.214, 0.016).good(), figure(0.512, 0.021).bad()],
                vec!["retain".into(), figure(0.934, 0.006), figure(0.907, 0.009).good(), figure(0.894, 0.01)],
                vec!["world facts".into(), figure(0.871, 0.031), figure(0.866, 0.031), figure(0.859, 0.031)],
            ],
        }))
        .heading("Curves")
        .push(Section::Plot(plot))
        .push(Section::Plot(loss))
        .heading("What it says now")
        .push(Section::Exchanges(Exchanges {
            caption: "Drawn with the seed of the run, not chosen.".into(),
            exchanges: vec![Exchange {
                question: "In which genre does Hina Ameen primarily write?".into(),
                expected: Some("Hina Ameen primarily contributes to the geology genre.".into()),
                answers: vec![
                    ("before".into(), "Hina Ameen primarily contributes to the geology genre.".into()),
                    ("after".into(), "I am not familiar with that author's work; she may write <b>novels</b>.".into()),
                ],
            }],
        }))
        .heading("How to reproduce")
        .command("Run the same recipe again:", "amend run recipes/unlearn-npo.toml --set seed=0")
        .push(Section::KeyValues(vec![
            ("commit".into(), "0cd41a0".into()),
            ("machine".into(), "AMD EPYC 9R45, 2 threads, 16 GiB, linux x86_64".into()),
            ("forget set".into(), "sha256 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".into()),
        ]));
    report
}

#[test]
fn the_page_is_self_contained_and_whole() {
    let html = example().to_html();
    for outside in ["src=", "@import", "url(", "<script", "href=\"http", "href=\"/"] {
        assert!(!html.contains(outside), "{outside}");
    }
    // Every link goes to a place on the page.
    for link in html.split("href=\"").skip(1) {
        let target = link.split('"').next().unwrap();
        let place = target.strip_prefix('#').unwrap();
        assert_eq!(html.matches(&format!(" id=\"{place}\"")).count(), 1, "{target}");
    }
    for words in ["<h1>Unlearning 10 authors", "prefers-color-scheme: dark", "0.214", "± 0.016", "✓", "✗"]
    {
        assert!(html.contains(words), "{words}");
    }
    for element in ["table", "figure", "svg", "article", "dl", "main", "body", "html", "tr", "p"] {
        let open =
            html.matches(&format!("<{element}>")).count() + html.matches(&format!("<{element} ")).count();
        assert_eq!(open, html.matches(&format!("</{element}>")).count(), "{element}");
    }
    // For looking at it: AMEND_SAMPLE_REPORT=report.html cargo test -p amend-run whole
    if let Some(path) = std::env::var_os("AMEND_SAMPLE_REPORT") {
        std::fs::write(&path, &html).unwrap();
        let Section::Plot(plot) = &example().sections[4] else { panic!("the fifth section is a plot") };
        std::fs::write(std::path::Path::new(&path).with_extension("svg"), plot.to_svg(760, 380)).unwrap();
        std::fs::write(std::path::Path::new(&path).with_extension("txt"), example().to_terminal(80)).unwrap();
    }
}

/// What people read, in each of its forms; a change of it is accepted by `INSTA_UPDATE=always cargo test`.
#[test]
fn every_section_reads_as_it_did_in_every_form() {
    insta::assert_snapshot!("terminal", example().to_terminal(80));
    insta::assert_snapshot!("narrow_terminal", example().to_terminal(40));
    insta::assert_snapshot!("markdown", example().to_markdown());
    let html = example().to_html();
    // The style and the curves are for eyes.
    let body = html.split_once("<body>").unwrap().1;
    let mut words = String::new();
    for (i, part) in body.split("<svg").enumerate() {
        words.push_str(if i == 0 { part } else { part.split_once("</svg>").unwrap().1 });
    }
    insta::assert_snapshot!("page", words);
}

#[test]
fn nothing_a_model_says_becomes_markup() {
    let evil = "<script>alert('x')</script> & \"q\" `<i>` \u{1b}[2J";
    let mut report = Report::new(evil);
    report.heading(evil).prose(evil).command(evil, evil);
    report.push(Section::Table(Table {
        caption: evil.into(),
        columns: vec![evil.into()],
        rows: vec![vec![Cell { error: Some(evil.into()), ..Cell::from(evil) }.bad()]],
    }));
    let answers = vec![(evil.into(), evil.into())];
    let exchange = Exchange { question: evil.into(), expected: Some(evil.into()), answers };
    report.push(Section::Exchanges(Exchanges { caption: evil.into(), exchanges: vec![exchange] }));
    report.push(Section::KeyValues(vec![(evil.into(), evil.into())]));
    let plot = Plot::new(evil, evil, evil).with(Series::new(evil, vec![(0.0, 1.0), (1.0, 2.0)]));
    let svg = plot.to_svg(600, 300);
    report.push(Section::Plot(plot));
    for text in [report.to_html(), svg] {
        assert!(!text.contains("<script") && !text.contains("<i>") && !text.contains('\u{1b}'), "{text}");
        assert!(text.contains("&lt;script&gt;"));
    }
    assert!(report.to_html().contains("<code>&lt;i&gt;</code>"));
    assert!(!report.to_terminal(80).contains('\u{1b}'));
}

#[test]
fn tables_stay_aligned_in_every_script() {
    let number = |value| Cell::from(Figure { value, n: 10, stderr: Some(0.01) });
    let mut report = Report::new("t");
    report.push(Section::Table(Table {
        caption: String::new(),
        columns: vec!["name".into(), "score".into()],
        rows: vec![vec!["漢字".into(), number(0.5)], vec!["e\u{301}te\u{301}".into(), number(10.25).good()]],
    }));
    let expected = "t\n═\n\n\
                    name           score\n\
                    ──────────────────────\n\
                    漢字   0.500 ± 0.010\n\
                    e\u{301}te\u{301}   10.250 ± 0.010 ✓\n";
    assert_eq!(report.to_terminal(80), expected);
}

#[test]
fn narrow_terminals_wrap() {
    for width in [20, 40, 80, 132] {
        for line in example().to_terminal(width).lines().filter(|line| !line.starts_with("  amend run")) {
            let limit = if width < 40 { 50 } else { width };
            assert!(width::columns(line) <= limit, "{width}: {line}");
        }
    }
}

#[test]
fn levels_are_drawn_and_points_tell_their_values() {
    let plot = Plot::new("Forgetting", "step", "accuracy")
        .with(Series::new("sago", vec![(0.0, 0.93), (10.0, 0.41)]))
        .with_level("aim <0.1>", 0.1)
        .holding([0.0, 1.0]);
    let svg = plot.to_svg(700, 400);
    assert!(svg.contains("aim &lt;0.1&gt;"), "{svg}");
    assert!(svg.contains("<title>sago, step 10, accuracy 0.410</title>"), "{svg}");
    // The axis goes up to what it has to hold, although no point is there.
    assert!(svg.contains("\n1.0\n") && svg.contains("\n0.0\n"), "{svg}");
    let html = {
        let mut report = Report::new("t");
        report.push(Section::Plot(plot));
        report.to_html()
    };
    assert!(html.contains("stroke=\"var(--level)\""), "levels have a colour on dark pages");
}

#[test]
fn headings_of_one_name_have_places_of_their_own() {
    let mut report = Report::new("t");
    report.prose("The answer.").heading("Attack").heading("Attack").heading("What changed").heading("§");
    let html = report.to_html();
    for place in ["attack", "attack-2", "what-changed", "-4"] {
        assert!(html.contains(&format!("<h2 id=\"{place}\">")), "{html}");
        assert!(html.contains(&format!("<a href=\"#{place}\">")), "{html}");
    }
    assert!(html.find("The answer.") < html.find("<nav") && html.find("<nav") < html.find("<h2"));
}

#[test]
fn series_differ_without_colour() {
    let mut plot = Plot::new("t", "x", "y");
    for index in 0..9 {
        let points = (0..5).map(|x| (f64::from(x), f64::from(x * index))).collect();
        plot = plot.with(Series::new(format!("s{index}"), points));
    }
    let svg = plot.to_svg(700, 400);
    for part in ["stroke-dasharray=\"28 14\"", "stroke-dasharray=\"6 12\"", "<circle", "<polygon", "\ns8\n"] {
        assert!(svg.contains(part), "{part}");
    }
    assert!(svg.starts_with("<svg xmlns=") && svg.trim_end().ends_with("</svg>"));
    assert!(svg.contains("width=\"700\" height=\"400\" viewBox=\"0 0 2800 1600\""));
}

#[test]
fn strange_numbers_leave_gaps_and_no_plot_fails() {
    let nan = f64::NAN;
    let points = vec![(0.0, 1.0), (1.0, nan), (2.0, 3.0), (3.0, f64::INFINITY), (4.0, -1.0), (5.0, 1e300)];
    let mut plot = Plot::new("t", "x", "y").with(Series::new("a", points).with_band(vec![(nan, 1.0); 6]));
    for (log_x, log_y) in [(false, false), (true, false), (false, true), (true, true)] {
        (plot.log_x, plot.log_y) = (log_x, log_y);
        let svg = plot.to_svg(400, 300);
        assert!(svg.contains("</svg>") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
    for points in [vec![], vec![(0.0, 0.0)], vec![(1.0, 5.0), (2.0, 5.0)], vec![(nan, nan)]] {
        assert!(Plot::new("t", "", "").with(Series::new("", points)).to_svg(300, 200).contains("</svg>"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_plot_and_any_text_can_be_shown(
        points in proptest::collection::vec((any::<f64>(), any::<f64>()), 0..20),
        text in "\\PC{0,30}", log_x in any::<bool>(), log_y in any::<bool>(), width in 0usize..120,
    ) {
        let mut plot = Plot::new(&text, &text, &text).with(Series::new(&text, points));
        (plot.log_x, plot.log_y) = (log_x, log_y);
        let mut report = Report::new(&text);
        report.prose(&text).push(Section::Plot(plot));
        report.push(Section::Table(Table { rows: vec![vec![text.as_str().into()], vec![]], ..Table::default() }));
        prop_assert!(report.to_html().contains("</html>"));
        report.to_terminal(width);
    }
}

/// At 90 columns `0.639 ±` stood above `0.081`, and words were broken in the middle.
#[test]
fn tables_break_neither_words_nor_figures() {
    let figure = |value: f64, stderr: f64| Cell::from(Figure { value, n: 400, stderr: Some(stderr) });
    let mut report = Report::new("t");
    report.push(Section::Table(Table {
        caption: String::new(),
        columns: ["arm", "forgotten?", "forget accuracy ↓", "(withstands relearn?)", "relearn: accuracy ↓"]
            .map(String::from)
            .to_vec(),
        rows: vec![vec![
            "pcgrad".into(),
            Cell::from("yes").good(),
            figure(0.042, 0.024),
            Cell::from("no, 0.36 above gold").bad(),
            figure(0.528, 0.084),
        ]],
    }));
    for width in [40, 60, 72, 90, 120] {
        let text = report.to_terminal(width);
        for whole in ["0.042 ± 0.024", "0.528 ± 0.084", "forgotten?", "accuracy", "(withstands", "pcgrad"] {
            assert!(text.contains(whole), "{width}: {text}");
        }
        assert!(text.lines().all(|line| width::columns(line) <= width), "{width}: {text}");
    }
}

#[test]
fn notes_stand_behind_figures_or_under_them() {
    let figure =
        Cell::from(Figure { value: 0.25, n: 36, stderr: Some(0.05) }).noted("unpaired, n = 36 and 36");
    let mut report = Report::new("t");
    let columns = ["arm", "first", "second"].map(str::to_owned).to_vec();
    report.push(Section::Table(Table {
        columns,
        rows: vec![vec!["sago".into(), figure.clone(), figure]],
        ..Table::default()
    }));
    let wide = report.to_terminal(100);
    assert!(wide.contains("0.250 ± 0.050 (unpaired, n = 36 and 36)"), "{wide}");
    let narrow = report.to_terminal(44);
    let under = |line: &str| line.matches("n = 36 and 36)").count() == 2 && !line.contains("unpaired");
    assert!(narrow.lines().any(under), "{narrow}");
    let page = report.to_html().replace('\u{a0}', " ");
    assert!(
        page.contains("</span><span class=\"note\">unpaired, n = 36 and 36</span></span></td>"),
        "{page}"
    );
}
