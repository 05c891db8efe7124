"""What stage `compare` works out and shows: the modules in the order of the data's way.

results     what the modules below fill and show
details  every score of base and adapter, beyond the headline
ladder   from the majority class to LoRA, one rung a method
flips    the rows that the adapter fixed and broke, and the likely wrong labels
curves   ROC, reliability, confusion, the gain's distribution: numbers for plots
gather   reads what the stages left, and fills the results
figures  the curves as pictures, in the style of figure_style: PNG files, and SVG inside the page
page     report.html and report.md, from templates; card is the model card
"""
