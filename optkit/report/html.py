"""stub"""
from optkit.report.model import Report
def render(report: Report) -> str:
    return report.metric
