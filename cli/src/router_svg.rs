//! Curves as a drawing: numbers in, SVG out. Legible on light and dark grounds.

use crate::memory_svg::escaped;
use std::fmt::Write;
use weir_lab::evaluation::report::Curve;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 400.0;
/// Left, top, right and bottom of the axes.
const ROOM: (f64, f64, f64, f64) = (64.0, 44.0, 150.0, 52.0);
const TICKS: u32 = 5;
const COLOURS: [&str; 6] = [
    "#0091d5", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#7f6df2",
];
const STYLE: &str = "svg{--ink:#1f2328;--paper:#ffffff;color-scheme:light dark}\
    @media(prefers-color-scheme:dark){svg{--ink:#e6edf3;--paper:#0d1117}}\
    text{fill:var(--ink);font:12px system-ui,sans-serif}.ground{fill:var(--paper)}\
    .axis{stroke:var(--ink);stroke-opacity:.4}.title{font-weight:600;font-size:14px}";

/// Where numbers stand on the drawing.
struct Frame {
    /// Least and greatest number from left to right.
    across: (f64, f64),
    /// Least and greatest number upwards.
    up: (f64, f64),
}

impl Frame {
    const LEFT: f64 = ROOM.0;
    const TOP: f64 = ROOM.1;
    const RIGHT: f64 = WIDTH - ROOM.2;
    const BOTTOM: f64 = HEIGHT - ROOM.3;

    fn of(curves: &[Curve]) -> Self {
        let points = || curves.iter().flat_map(|curve| &curve.points);
        let least = points().map(|point| point.0).fold(f64::INFINITY, f64::min);
        let most = points()
            .map(|point| point.0)
            .fold(f64::NEG_INFINITY, f64::max);
        let low = points().map(|point| point.1).fold(0.0, f64::min);
        let top = points().map(|point| point.1).fold(0.0, f64::max);
        Self {
            across: if least < most {
                (least, most)
            } else {
                (0.0, 1.0)
            },
            up: (low, if top > low { top } else { 1.0 }),
        }
    }

    fn x(&self, value: f64) -> f64 {
        let (least, most) = self.across;
        Self::LEFT + (value - least) / (most - least) * (Self::RIGHT - Self::LEFT)
    }

    fn y(&self, value: f64) -> f64 {
        let (low, top) = self.up;
        Self::BOTTOM - (value - low) / (top - low) * (Self::BOTTOM - Self::TOP)
    }

    /// A place on the vertical axis.
    fn tick(&self, share: f64) -> f64 {
        let (low, top) = self.up;
        low + share * (top - low)
    }
}

/// Curves over one range; the vertical axis begins at 0, or below it where a curve does.
pub(crate) fn draw(title: &str, (below, beside): (&str, &str), curves: &[Curve]) -> String {
    let frame = Frame::of(curves);
    let title = escaped(title);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n\
         <rect class=\"ground\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n"
    );
    let mut text = |x: f64, y: f64, rest: &str, said: &str| {
        put(
            &mut svg,
            format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\"{rest}>{said}</text>"),
        );
    };
    let centred = " text-anchor=\"middle\"";
    text(Frame::LEFT, 24.0, " class=\"title\"", &title);
    let middle = Frame::LEFT.midpoint(Frame::RIGHT);
    text(middle, HEIGHT - 12.0, centred, &escaped(below));
    let middle = Frame::TOP.midpoint(Frame::BOTTOM);
    let turned = format!(" transform=\"rotate(-90 16 {middle:.1})\"{centred}");
    text(16.0, middle, &turned, &escaped(beside));
    for tick in 0..=TICKS {
        let share = f64::from(tick) / f64::from(TICKS);
        let (least, most) = frame.across;
        let (across, up) = (least + share * (most - least), frame.tick(share));
        let (x, y) = (frame.x(across), frame.y(up));
        text(
            Frame::LEFT - 8.0,
            y + 4.0,
            " text-anchor=\"end\"",
            &format!("{up:.2}"),
        );
        text(x, Frame::BOTTOM + 18.0, centred, &format!("{across:.2}"));
    }
    for (index, curve) in curves.iter().enumerate() {
        text(
            Frame::RIGHT + 32.0,
            legend(index),
            "",
            &escaped(&curve.name),
        );
    }
    lines(&mut svg, &frame, curves);
    svg.push_str("</svg>\n");
    svg
}

/// The line of a curve's name.
fn legend(index: usize) -> f64 {
    Frame::TOP + 8.0 + 20.0 * index as f64
}

fn lines(svg: &mut String, frame: &Frame, curves: &[Curve]) {
    for tick in 0..=TICKS {
        let y = frame.y(frame.tick(f64::from(tick) / f64::from(TICKS)));
        let (left, right) = (Frame::LEFT, Frame::RIGHT);
        put(
            svg,
            format_args!(
                "<line class=\"axis\" x1=\"{left}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"
            ),
        );
    }
    for (index, curve) in curves.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let points = curve.points.iter();
        let points = points.map(|point| format!("{:.1},{:.1}", frame.x(point.0), frame.y(point.1)));
        let points = points.collect::<Vec<_>>().join(" ");
        let (x, y) = (Frame::RIGHT + 14.0, legend(index) - 6.0);
        put(
            svg,
            format_args!(
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{points}\"/>\n\
                 <rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"12\" height=\"4\" fill=\"{colour}\"/>"
            ),
        );
    }
}

fn put(svg: &mut String, part: std::fmt::Arguments<'_>) {
    svg.write_fmt(part).expect("a String takes every write");
    svg.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_begins_and_ends_at_its_range() {
        let curve = Curve {
            name: "a < b".to_owned(),
            points: vec![(0.0, 0.0), (0.5, 1.0), (1.0, 0.5)],
        };
        let svg = draw("t", ("x", "y"), &[curve]);
        assert!(
            svg.contains("points=\"64.0,348.0 277.0,44.0 490.0,196.0\""),
            "{svg}"
        );
        assert!(svg.contains("a &lt; b"));
    }

    #[test]
    fn what_is_below_nothing_stays_on_the_drawing() {
        let curve = Curve {
            name: "a".to_owned(),
            points: vec![(0.0, -1.0), (1.0, 1.0)],
        };
        let svg = draw("t", ("x", "y"), &[curve]);
        assert!(svg.contains("points=\"64.0,348.0 490.0,44.0\""), "{svg}");
        assert!(svg.contains(">-1.00</text>"), "{svg}");
    }

    #[test]
    fn nothing_to_draw_is_drawn() {
        assert!(draw("t", ("x", "y"), &[]).ends_with("</svg>\n"));
    }
}
