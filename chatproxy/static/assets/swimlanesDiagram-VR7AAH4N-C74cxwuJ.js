import{r as e,t}from"./chunk-SHT3W25Y-C0d6NU5l.js";import"./chunk-POPQ4Y6H-C5PTOLoh.js";import"./chunk-LNGE3PJU-DRjopGY8.js";import"./chunk-TLUHSLCS-DkoqZ3RD.js";import"./chunk-F27PBJKO-BbZRAeG5.js";import"./chunk-L3NEJ4N5-CVKuMGsD.js";import"./chunk-OSK3NFVY-BwM4_Yvm.js";import"./chunk-GVQU2GXP-po3s40qu.js";import"./chunk-4HAMMTFA-BvypH23e.js";import"./chunk-P2QGCYS3-4YqXMzXK.js";import"./chunk-GMAD6QVW-BdGB5hfA.js";import"./chunk-PWAF6VOD-DreA-hWO.js";import"./chunk-75Z2AOVW-BikuXFyK.js";import"./chunk-DU6HZSFF-stCpBtSj.js";import"./d3-selection-CQOeqU2O.js";import{n}from"./chunk-Y2CYZVJY-DsF7k-Jl.js";var r=t({defaultLayout:`swimlane`,styles:n(t=>`${e(t)}
  .swimlane.cluster rect {
    stroke: ${t.clusterBorder} !important;
  }
  [data-look="neo"].cluster rect {
    filter: none;
  }
`,`getStyles`)});export{r as diagram};