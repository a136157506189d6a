//! Plots, as SVG: each tool compared with the bound, and growth of cost.

use std::error::Error;
use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use crate::record::Record;
use crate::table::{self, CPU, Group, PEAK, Pick, Spread, WALL};

type Drawn = Result<(), Box<dyn Error>>;

/// Colours that colour-blind people can tell apart (Okabe and Ito, 2002), and a grey for the bound.
const COLOURS: [RGBColor; 9] = [
    RGBColor(213, 94, 0),
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(60, 60, 60),
    RGBColor(160, 140, 0),
    RGBColor(120, 70, 170),
];
const GREY: RGBColor = RGBColor(150, 150, 150);

/// Ours is always the first colour, the bound always grey.
fn colour(tool: &str, tools: &[&str]) -> RGBColor {
    match tool {
        "bound" => return GREY,
        "bound-64" => return RGBColor(90, 90, 90),
        _ => {}
    }
    let mut others = tools.iter().filter(|tool| !tool.starts_with("bound"));
    COLOURS[others.position(|other| *other == tool).unwrap_or(0) % COLOURS.len()]
}

/// Wall time of every tool on every workload as a multiple of the bound's: a point at the median, a line from the minimum
/// to the maximum.
pub(crate) fn ratios(path: &Path, groups: &[Group<'_>], title: &str) -> Drawn {
    let mut tools: Vec<&str> = Vec::new();
    for tool in groups.iter().flat_map(Group::timed_tools) {
        if tool != "bound" && !tools.contains(&tool) {
            tools.push(tool);
        }
    }
    let ratio = |group: &Group<'_>, tool: &str| group.ratio(tool, "bound", WALL);
    let all = groups.iter().flat_map(|group| tools.iter().filter_map(|tool| ratio(group, tool)));
    let range = all.fold(0.9..1.5, |range: Range<f64>, ratio| range.start.min(ratio.least)..range.end.max(ratio.most));
    let height = 90 + groups.len() as u32 * (16 + tools.len() as u32 * 9);
    let root = SVGBackend::new(path, (900, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(60)
        .build_cartesian_2d((range.start * 0.9..range.end * 1.1).log_scale(), 0.0..groups.len() as f64)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .light_line_style(TRANSPARENT)
        .y_labels(0)
        .x_desc("wall time, multiples of the bound")
        .x_label_formatter(&|ratio| format!("{ratio:.1}"))
        .draw()?;
    for (row, group) in groups.iter().enumerate() {
        let top = (groups.len() - row) as f64;
        let line = [(range.start * 0.9, top), (range.end * 1.1, top)];
        chart.draw_series(LineSeries::new(line, BLACK.mix(0.2)))?;
        let (left, middle) = chart.backend_coord(&(range.start * 0.9, top - 0.5));
        let style = ("sans-serif", 14).into_font().color(&BLACK);
        root.draw_text(group.workload, &style, (left - 48, middle - 7))?;
    }
    for tool in &tools {
        let colour = colour(tool, &tools);
        let place = tools.iter().position(|other| other == tool).unwrap_or(0) as f64 + 0.8;
        let marks = groups.iter().enumerate().filter_map(|(row, group)| {
            let ratio = ratio(group, tool)?;
            Some(((groups.len() - row) as f64 - place / (tools.len() as f64 + 0.6), ratio))
        });
        let marks: Vec<_> = marks.collect();
        for (height, ratio) in &marks {
            let line = [(ratio.least, *height), (ratio.most, *height)];
            chart.draw_series(LineSeries::new(line, colour.stroke_width(2)))?;
        }
        let points = marks.iter().map(|(height, ratio)| Circle::new((ratio.median, *height), 4, colour.filled()));
        chart.draw_series(points)?.label(*tool).legend(move |(x, y)| Circle::new((x + 8, y), 4, colour.filled()));
    }
    chart.draw_series(LineSeries::new([(1.0, 0.0), (1.0, groups.len() as f64)], GREY.stroke_width(2)))?;
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.3)).draw()?;
    root.present()?;
    Ok(())
}

/// Growth of wall time, processor time and peak memory along a series, tool by tool.
pub(crate) fn growth(path: &Path, series: &str, records: &[Record]) -> Drawn {
    let groups = table::groups(records);
    let mut tools: Vec<&str> = Vec::new();
    for tool in groups.iter().flat_map(Group::timed_tools) {
        if !tools.contains(&tool) {
            tools.push(tool);
        }
    }
    let root = SVGBackend::new(path, (900, 900)).into_drawing_area();
    root.fill(&WHITE)?;
    let quantities: [(&str, Pick); 3] = [("wall, s", WALL), ("CPU, s", CPU), ("peak, MiB", PEAK)];
    for (panel, (what, pick)) in root.split_evenly((3, 1)).iter().zip(quantities) {
        let lines: Vec<_> = tools.iter().map(|tool| (*tool, points(&groups, tool, pick))).collect();
        let all = || lines.iter().flat_map(|(_, points)| points).copied();
        let end = all().map(|(at, _)| at).fold(1.0, f64::max);
        let begin = all().map(|(at, _)| at).fold(end, f64::min);
        // A round trip may be zero, which a logarithm cannot show.
        if series == "rtt" {
            draw(panel, [series, what], 0.0..end * 1.02, &lines)?;
        } else {
            draw(panel, [series, what], (begin * 0.9..end * 1.1).log_scale(), &lines)?;
        }
    }
    root.present()?;
    Ok(())
}

/// A tool's points, in the order of the series.
type Line<'a> = (&'a str, Vec<(f64, Spread)>);

fn points(groups: &[Group<'_>], tool: &str, pick: Pick) -> Vec<(f64, Spread)> {
    groups.iter().filter_map(|group| Some((group.records.first()?.at?, group.spread(tool, pick)?))).collect()
}

fn draw<X>(panel: &DrawingArea<SVGBackend<'_>, Shift>, [series, what]: [&str; 2], x: X, lines: &[Line<'_>]) -> Drawn
where
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
{
    let all = || lines.iter().flat_map(|(_, points)| points);
    let most = all().map(|(_, spread)| spread.most).fold(0.001, f64::max);
    let least = all().map(|(_, spread)| spread.least).filter(|least| *least > 0.0).fold(most, f64::min);
    let tools: Vec<_> = lines.iter().map(|(tool, _)| *tool).collect();
    // Whole decades, so that every panel has a mark or two to read.
    let decades = 10_f64.powf(least.log10().floor())..10_f64.powf(most.log10().ceil());
    let series = if series == "rtt" { "round trip, ms" } else { series };
    let mut chart = ChartBuilder::on(panel)
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(x, decades.log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc(series)
        .y_desc(what)
        .x_label_formatter(&number)
        .y_label_formatter(&number)
        .draw()?;
    for (tool, points) in lines {
        let colour = colour(tool, &tools);
        let medians = points.iter().map(|(at, spread)| (*at, spread.median));
        chart
            .draw_series(LineSeries::new(medians.clone(), colour.stroke_width(2)))?
            .label(*tool)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        chart.draw_series(medians.map(|point| Circle::new(point, 3, colour.filled())))?;
        for (at, spread) in points {
            chart.draw_series(LineSeries::new([(*at, spread.least), (*at, spread.most)], colour))?;
        }
    }
    let place = SeriesLabelPosition::UpperLeft;
    chart
        .configure_series_labels()
        .position(place)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}

/// The shortest form: steps of a logarithmic axis have rounding errors.
fn number(value: &f64) -> String {
    let digits = format!("{value:.3}");
    digits.trim_end_matches('0').trim_end_matches('.').to_owned()
}
