//! A detection as a picture.
//!
//! Windows without a number leave a gap in the line: it must not look as if something had been measured there.

use plotters::prelude::*;

use super::rows::{Messages, Window};
use crate::model::detection::format_time;
use crate::model::pipeline::Micros;

/// The size of the picture, in pixels.
const SIZE: (u32, u32) = (960, 360);
const FONT: (&str, u32) = ("sans-serif", 13);
/// How much room there is above and below, as a share of what is shown.
const MARGIN: f64 = 0.08;

const MEASURE: RGBColor = RGBColor(31, 119, 180);
const LIMIT: RGBColor = RGBColor(214, 39, 40);
const MOMENT: RGBColor = RGBColor(255, 127, 14);

/// The picture as the text of an SVG file.
pub(super) fn draw(messages: &Messages, windows: &[Window]) -> Result<String, String> {
    let mut svg = String::new();
    draw_into(&mut svg, messages, windows).map_err(|error| error.to_string())?;
    Ok(svg)
}

fn draw_into(svg: &mut String, messages: &Messages, windows: &[Window]) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let (x, y) = (times(messages, windows), values(messages, windows));
    let labels = messages.series.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
    let title = format!("{}.{}  {}", messages.pipeline, messages.rule, labels.join(" "));
    let mut chart = ChartBuilder::on(&area)
        .caption(title, (FONT.0, 15))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(60)
        .build_cartesian_2d(x.clone(), y)?;
    chart
        .configure_mesh()
        .x_labels(8)
        .x_label_formatter(&|time| clock(*time))
        .y_desc(messages.measure.as_str())
        .label_style(FONT)
        .light_line_style(TRANSPARENT)
        .draw()?;
    let last = messages.messages.last();
    if let Some(band) = last.and_then(|message| message.baseline.as_ref()) {
        let corners = [(x.start, band.lower), (x.end, band.upper)];
        chart.draw_series([Rectangle::new(corners, MEASURE.mix(0.12).filled())])?;
    }
    let limits = messages.messages.iter().filter_map(|message| message.threshold);
    if let Some(limit) = limits.clone().next_back() {
        chart.draw_series(LineSeries::new([(x.start, limit), (x.end, limit)], LIMIT.stroke_width(1)))?;
    }
    for run in windows.split(|window| window.value.is_none()).filter(|run| !run.is_empty()) {
        let points = run.iter().filter_map(|window| Some((window.start, window.value?)));
        chart.draw_series(LineSeries::new(points, MEASURE.stroke_width(2)))?;
    }
    let moments = messages.messages.iter().filter_map(|message| Some((message.window_start, message.value?)));
    chart.draw_series(moments.map(|moment| Circle::new(moment, 4, MOMENT.filled())))?;
    area.present()?;
    Ok(())
}

/// From the first to the last moment that is shown; never empty.
fn times(messages: &Messages, windows: &[Window]) -> std::ops::Range<Micros> {
    let starts = windows.iter().map(|window| window.start);
    let starts = || starts.clone().chain(messages.messages.iter().map(|message| message.window_start));
    let (first, last) = (starts().min().unwrap_or(0), starts().max().unwrap_or(0));
    first..last.max(first.saturating_add(1_000_000))
}

/// From the lowest to the highest value that is shown, with some room; never empty.
fn values(messages: &Messages, windows: &[Window]) -> std::ops::Range<f64> {
    let said = messages.messages.iter().flat_map(|message| [message.value, message.threshold]);
    let bands = messages.messages.iter().filter_map(|message| message.baseline.as_ref());
    let bands = bands.flat_map(|band| [Some(band.lower), Some(band.upper)]);
    let shown = windows.iter().map(|window| window.value).chain(said).chain(bands);
    let shown = shown.flatten().filter(|value| value.is_finite()).chain([0.0]).collect::<Vec<_>>();
    let (low, high) = shown.iter().fold((0.0_f64, 0.0_f64), |(low, high), value| (low.min(*value), high.max(*value)));
    let room = if high > low { (high - low) * MARGIN } else { 1.0 };
    (if low < 0.0 { low - room } else { 0.0 })..(high + room)
}

/// Hour and minute.
fn clock(time: Micros) -> String {
    format_time(time).get(11..16).unwrap_or_default().to_owned()
}
