"""The page as a whole. What enters: a setup. What leaves: gradio's blocks, and a server that listens.

Nothing is fetched from elsewhere: fonts are the reader's own, and gradio is told to report to nobody.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bsq import __version__
from bsq.demo import compressing, decoding, generating
from bsq.demo.handling import Setup, import_gradio
from bsq.errors import SettingsError

WAITING = 24  # requests in the queue; more are turned away
VISITORS = 8  # whose work is kept; the one that was away longest is forgotten
FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif")
FIXED_FONTS = ("ui-monospace", "Consolas", "DejaVu Sans Mono", "monospace")
STYLE = """
.gradio-container, .gradio-container > main, .gradio-container .contain { width: 100% !important; }
.gradio-container > main { max-width: 1440px !important; margin: 0 auto !important; }
.html-container { padding: 0 !important; }
.bsq-head { display: flex; align-items: baseline; gap: 14px; flex-wrap: wrap; padding: 6px 2px 2px; }
.bsq-head h1 { font-size: 30px; letter-spacing: -0.5px; margin: 0; }
.bsq-head span { color: var(--body-text-color-subdued); font-size: 15px; }
.bsq-cards { display: grid; grid-template-columns: repeat(6, 1fr); gap: 8px; }
.bsq-card { background: var(--background-fill-secondary); border-radius: 10px; padding: 9px 11px; grid-column: span 2;
  display: flex; flex-direction: column; line-height: 1.25; }
.bsq-card:nth-child(-n+2) { grid-column: span 3; }
.bsq-card:nth-child(-n+2) b { font-size: 24px; }
.bsq-card span, .bsq-card small { font-size: 12px; color: var(--body-text-color-subdued); }
.bsq-card b { font-size: 18px; font-variant-numeric: tabular-nums; }
.bsq-quiet { color: var(--body-text-color-subdued); font-size: 13px; line-height: 1.45; margin: 4px 0; }
.bsq-empty { color: var(--body-text-color-subdued); padding: 18px 12px; text-align: center; border-radius: 10px;
  background: var(--background-fill-secondary); font-size: 14px; }
.bsq-table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px;
  border: 0 !important; }
.bsq-table td, .bsq-table th { padding: 5px 12px !important; text-align: right; border: 0 !important;
  border-bottom: 1px solid var(--border-color-primary) !important; }
.bsq-table td:first-child { text-align: left; }
.bsq-table tr:nth-child(2) td { background: var(--primary-50); }
.dark .bsq-table tr:nth-child(2) td { background: var(--background-fill-secondary); }
.bsq-table tr { border: 0 !important; background: none !important; }
.bsq-part { font-size: 17px; margin: 18px 0 2px !important; }
#slider { min-height: 420px; }
#gallery .grid-wrap { min-height: 0; height: auto !important; max-height: none; }
.bsq-facts td, .bsq-facts tr:nth-child(2) td { text-align: left; padding: 4px 8px 4px 0; font-size: 13px;
  background: none; }
.bsq-facts td:first-child { color: var(--body-text-color-subdued); vertical-align: top; }
.bsq-legend { display: flex; align-items: center; gap: 10px; font-size: 13px; font-variant-numeric: tabular-nums; }
.bsq-legend i { height: 10px; width: 260px; border-radius: 5px; display: inline-block; }
.bsq-cut { font-size: 14px; padding: 6px 2px; }
"""


@dataclass(frozen=True)
class Address:
    """Where the page listens; `port` None is the first free one from gradio's usual port on."""

    host: str
    port: int | None


def build_page(setup: Setup) -> Any:
    """gradio's blocks. Raises MissingDependencyError without gradio."""
    gr = import_gradio()
    with gr.Blocks(title="bsq", analytics_enabled=False, fill_width=True, delete_cache=(600, 3600)) as blocks:
        gr.HTML(
            f"<div class='bsq-head'><h1>bsq</h1><span>pictures and clips as short rows of bits, and back · "
            f"{setup.model_name} · version {__version__}</span></div>"
        )
        with gr.Tab("Compress"):
            compressing.lay_out(setup)
        with gr.Tab("Open a .bsq file"):
            decoding.lay_out(setup)
        with gr.Tab("Generate"):
            generating.lay_out(setup)
    return blocks.queue(max_size=WAITING, default_concurrency_limit=4, api_open=False)


def serve(setup: Setup, address: Address, open_browser: bool, on_start: Callable[[str], None]) -> None:
    """Listen until interrupted or ended; `on_start` is told the URL. Raises SettingsError for a port that is taken."""
    blocks, gr = build_page(setup), import_gradio()
    theme = gr.themes.Base(
        primary_hue="amber", neutral_hue="stone", font=FONTS, font_mono=FIXED_FONTS, radius_size="lg"
    ).set(button_primary_text_color="*neutral_900", button_primary_text_color_hover="*neutral_900")
    try:
        _, url, _ = blocks.launch(
            server_name=address.host,
            server_port=address.port,
            inbrowser=open_browser,
            prevent_thread_lock=True,
            share=False,
            quiet=True,
            ssr_mode=False,
            footer_links=[],
            max_file_size=setup.bounds.file,
            css=STYLE,
            theme=theme,
            state_session_capacity=VISITORS,
            show_error=True,
            enable_monitoring=False,
            pwa=False,
            mcp_server=False,
        )
    except OSError as error:
        place = address.host if address.port is None else f"{address.host}:{address.port}"
        raise SettingsError(
            f"cannot listen at {place}: the port is taken, or the name is none of this machine; choose another --port "
            "or --host"
        ) from error
    ended = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: ended.set())  # so that uploads are cleared away
    try:
        on_start(url)
        ended.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
        blocks.close(verbose=False)


def prepare_surroundings(folder: Path) -> None:
    """Before gradio is imported: no reports, no proxy for our own address, uploads in a folder of this run."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "localhost", "127.0.0.1"]))
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "uploads")
