"""Draw the pictures of the READMEs: the report's first screen, and the comparison of methods."""

import shutil
from pathlib import Path

from playwright.sync_api import ViewportSize, sync_playwright

from stages.reporting.contenders import draw_contenders, read_contenders
from stages.reporting.figures import save_png, style

ROOT = Path(__file__).parents[1]
WIDTH, HEIGHT = 1000, 720  # CSS pixels

if __name__ == "__main__":
    with style():
        save_png(draw_contenders(read_contenders()), ROOT / ".github/methods.png")
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for theme in ("light", "dark"):
            size = ViewportSize(width=WIDTH, height=HEIGHT)
            page = browser.new_page(viewport=size, color_scheme=theme)
            page.goto((ROOT / "metrics/report.html").as_uri())
            page.screenshot(path=ROOT / f".github/report-{theme}.png")
        browser.close()
