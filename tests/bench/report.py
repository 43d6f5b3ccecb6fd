"""The figures of all rounds, and the forms they are shown in."""

from __future__ import annotations

import datetime
import json
import os
import platform
from pathlib import Path
from statistics import median
from xml.sax.saxutils import escape

SERVERS = ("parleyd", "sshd", "asyncssh")

# work: what it is called, unit, whether more is better
WORKS = {
    "login_cpu": ("login + exec, CPU", "ms", False),
    "login_rate": ("logins at {parallel} in parallel", "1/s", True),
    "login_p50": ("login + exec, p50 at {parallel}", "ms", False),
    "down_aes128-gcm_cpu": ("to the client, aes128-gcm, CPU", "s/GB", False),
    "down_aes128-gcm_speed": ("to the client, aes128-gcm", "MB/s", True),
    "up_aes128-gcm_cpu": ("from the client, aes128-gcm, CPU", "s/GB", False),
    "up_aes128-gcm_speed": ("from the client, aes128-gcm", "MB/s", True),
    "down_chacha20_cpu": ("to the client, chacha20, CPU", "s/GB", False),
    "down_chacha20_speed": ("to the client, chacha20", "MB/s", True),
    "up_chacha20_cpu": ("from the client, chacha20, CPU", "s/GB", False),
    "up_chacha20_speed": ("from the client, chacha20", "MB/s", True),
    "process_login_cpu": ("login + a program, CPU", "ms", False),
    "process_down_aes128-gcm_cpu": ("from a program, aes128-gcm, CPU", "s/GB", False),
    "process_down_aes128-gcm_speed": ("from a program, aes128-gcm", "MB/s", True),
    "process_up_aes128-gcm_cpu": ("to a program, aes128-gcm, CPU", "s/GB", False),
    "process_up_aes128-gcm_speed": ("to a program, aes128-gcm", "MB/s", True),
    "process_down_chacha20_cpu": ("from a program, chacha20, CPU", "s/GB", False),
    "process_down_chacha20_speed": ("from a program, chacha20", "MB/s", True),
    "process_up_chacha20_cpu": ("to a program, chacha20, CPU", "s/GB", False),
    "process_up_chacha20_speed": ("to a program, chacha20", "MB/s", True),
    "forward_down_aes128-gcm_cpu": ("forwarded to the client, aes128-gcm, CPU", "s/GB", False),
    "forward_down_aes128-gcm_speed": ("forwarded to the client, aes128-gcm", "MB/s", True),
    "forward_up_aes128-gcm_cpu": ("forwarded from the client, aes128-gcm, CPU", "s/GB", False),
    "forward_up_aes128-gcm_speed": ("forwarded from the client, aes128-gcm", "MB/s", True),
    "forward_down_chacha20_cpu": ("forwarded to the client, chacha20, CPU", "s/GB", False),
    "forward_down_chacha20_speed": ("forwarded to the client, chacha20", "MB/s", True),
    "forward_up_chacha20_cpu": ("forwarded from the client, chacha20, CPU", "s/GB", False),
    "forward_up_chacha20_speed": ("forwarded from the client, chacha20", "MB/s", True),
    "upstream_down_aes128-gcm_cpu": ("through a jump, to the client, aes128-gcm, CPU", "s/GB", False),
    "upstream_down_aes128-gcm_speed": ("through a jump, to the client, aes128-gcm", "MB/s", True),
    "upstream_up_aes128-gcm_cpu": ("through a jump, from the client, aes128-gcm, CPU", "s/GB", False),
    "upstream_up_aes128-gcm_speed": ("through a jump, from the client, aes128-gcm", "MB/s", True),
    "upstream_down_chacha20_cpu": ("through a jump, to the client, chacha20, CPU", "s/GB", False),
    "upstream_down_chacha20_speed": ("through a jump, to the client, chacha20", "MB/s", True),
    "upstream_up_chacha20_cpu": ("through a jump, from the client, chacha20, CPU", "s/GB", False),
    "upstream_up_chacha20_speed": ("through a jump, from the client, chacha20", "MB/s", True),
    "upstream_w_down_aes128-gcm_cpu": ("through a jump, -W, to the client, aes128-gcm, CPU", "s/GB", False),
    "upstream_w_down_aes128-gcm_speed": ("through a jump, -W, to the client, aes128-gcm", "MB/s", True),
    "upstream_w_up_aes128-gcm_cpu": ("through a jump, -W, from the client, aes128-gcm, CPU", "s/GB", False),
    "upstream_w_up_aes128-gcm_speed": ("through a jump, -W, from the client, aes128-gcm", "MB/s", True),
    "echo_p50": ("one byte there and back, p50", "µs", False),
    "echo_p99": ("one byte there and back, p99", "µs", False),
    "echo_beside_p50": ("… beside a bulk transfer, p50", "µs", False),
    "echo_beside_p99": ("… beside a bulk transfer, p99", "µs", False),
    "idle_rss": ("idle connection, RSS", "KiB", False),
    "idle_pss": ("idle connection, PSS", "KiB", False),
    "supervised_rss": ("idle connection, supervised, RSS", "KiB", False),
    "supervised_pss": ("idle connection, supervised, PSS", "KiB", False),
    "decision_p50": ("one decision, p50", "µs", False),
    "decision_p99": ("one decision, p99", "µs", False),
    "crowd_held": ("idle connections held at once", "", True),
    "crowd_p99_before": ("login p99 before them", "ms", False),
    "crowd_p99_with": ("login p99 with them", "ms", False),
    "guess_known": ("wrong password of a user that exists, p50", "ms", False),
    "guess_unknown": ("… of one that does not, p50", "ms", False),
}


class Results:
    """Samples by work and server."""

    def __init__(self) -> None:
        self.samples: dict[str, dict[str, list[float]]] = {}

    def add(self, work: str, server: str, value: float) -> None:
        self.samples.setdefault(work, {}).setdefault(server, []).append(value)

    def summary(self) -> dict[str, dict[str, dict]]:
        """{work: {server: {median, min, max, unit}}}"""
        return {
            work: {
                server: {
                    "median": round(median(values), 4),
                    "min": round(min(values), 4),
                    "max": round(max(values), 4),
                    "unit": WORKS[work][1],
                }
                for server, values in self.samples[work].items()
            }
            for work in WORKS
            if work in self.samples
        }


def number(value: float) -> str:
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def machine() -> str:
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = " ".join(line.partition(":")[2].split())
            break
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, Linux {platform.release().split('-')[0]}"


def _cell(figures: dict | None) -> str:
    if figures is None:
        return ""
    text = number(figures["median"])
    if figures["min"] != figures["max"]:
        text += f" ({number(figures['min'])}–{number(figures['max'])})"
    return text


def _factor(row: dict, server: str, more_is_better: bool) -> str:
    """How many times better parleyd is."""
    if server not in row or "parleyd" not in row:
        return ""
    ours, theirs = row["parleyd"]["median"], row[server]["median"]
    if not ours or not theirs:
        return ""
    return number(ours / theirs if more_is_better else theirs / ours) + "×"


HEAD = ["work", "unit", "parleyd", "sshd", "asyncssh", "beside sshd", "beside asyncssh", "policy's CPU"]


def rows(summary: dict, words: dict) -> list[list[str]]:
    table = []
    for work, row in summary.items():
        label, unit, more = WORKS[work]
        other = row.get("bare gRPC")
        cells = [label.format(**words), unit] + [_cell(row.get(server)) for server in SERVERS]
        cells += [_factor(row, "sshd", more), _factor(row, "asyncssh", more), _cell(row.get("policy"))]
        if other is not None:
            cells[3] = f"bare gRPC: {_cell(other)}"
            cells[5] = _factor(row, "bare gRPC", more)
        table.append(cells)
    return table


def text(summary: dict, words: dict) -> str:
    table = [HEAD, *rows(summary, words)]
    widths = [max(len(row[i]) for row in table) for i in range(len(HEAD))]
    lines = []
    for row in table:
        cells = [cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def markdown(summary: dict, words: dict) -> str:
    lines = [
        f"Measured on {datetime.date.today()} by `./dev bench`: {machine()}; {words['versions']}.",
        f"Medians of {words['rounds']} interleaved rounds, smallest and largest in brackets.",
        "",
        "| " + " | ".join(HEAD) + " |",
        "|---|---|" + "---:|" * (len(HEAD) - 2),
    ]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows(summary, words)])


# ---------------------------------------------------------------- the chart

COLOURS = {"parleyd": "#2f6fde", "sshd": "#9aa3ad", "asyncssh": "#d9a441", "bare gRPC": "#7bb07b"}
WIDTH, LEFT, BAR, GAP, TOP = 860, 270, 13, 14, 64
STYLE = "text{font:12px system-ui,sans-serif;fill:#24292f}.v{font-size:11px;fill:#57606a}.h{font-size:16px;font-weight:600}"


def chart(summary: dict, words: dict) -> str:
    """One group of bars for each work, scaled to its largest."""
    shown = [work for work in summary if len(set(summary[work]) - {"policy"}) > 1]
    parts, y = [], TOP
    for work in shown:
        label, unit, more = WORKS[work]
        row = {name: summary[work][name] for name in COLOURS if name in summary[work]}
        largest = max(figures["median"] for figures in row.values()) or 1
        middle = y + len(row) * BAR / 2 + 4
        note = f" ({unit}, {'more' if more else 'less'} is better)"
        parts.append(
            f'<text x="{LEFT - 10}" y="{middle - 7:.0f}" text-anchor="end">{escape(label.format(**words))}</text>'
            f'<text class="v" x="{LEFT - 10}" y="{middle + 7:.0f}" text-anchor="end">{escape(note.strip())}</text>'
        )
        for name, figures in row.items():
            width = max(1.0, figures["median"] / largest * (WIDTH - LEFT - 110))
            parts.append(
                f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR - 2}" rx="2" fill="{COLOURS[name]}"/>'
                f'<text class="v" x="{LEFT + width + 6:.1f}" y="{y + BAR - 3}">{number(figures["median"])}</text>'
            )
            y += BAR
        y += GAP
    legend, x = [], LEFT
    for name, colour in COLOURS.items():
        legend.append(f'<rect x="{x}" y="38" width="11" height="11" rx="2" fill="{colour}"/>')
        legend.append(f'<text x="{x + 16}" y="48">{name}</text>')
        x += 100
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}">',
            f"<style>{STYLE}</style>",
            '<rect width="100%" height="100%" fill="#fff"/>',
            f'<text class="h" x="{LEFT}" y="24">Parley beside OpenSSH and asyncssh</text>',
            *legend,
            *parts,
            f'<text class="v" x="10" y="{y - 4}">{escape(machine())}; {datetime.date.today()}</text>',
            "</svg>",
            "",
        ]
    )


def write(summary: dict, words: dict, where: Path) -> None:
    where.mkdir(parents=True, exist_ok=True)
    (where / "latest.json").write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    (where / "latest.svg").write_text(chart(summary, words))
    (where / "latest.md").write_text(markdown(summary, words) + "\n")
